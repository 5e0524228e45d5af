"""caffe2torch: any Caffe model, turned into PyTorch and ONNX, with proof."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caffe2torch.api import convert, load, read
    from caffe2torch.errors import (
        ArtefactError,
        Caffe2TorchError,
        Caffe2TorchWarning,
        NetError,
        ParityError,
        ReadError,
        UnsupportedLayerError,
        WeightsError,
    )
    from caffe2torch.graph import Graph
    from caffe2torch.inference import optimize
    from caffe2torch.layers import register_layer
    from caffe2torch.parity.check import check_parity
    from caffe2torch.parity.result import ParityReport
    from caffe2torch.version import __version__

__all__ = [
    "ArtefactError",
    "Caffe2TorchError",
    "Caffe2TorchWarning",
    "Graph",
    "NetError",
    "ParityError",
    "ParityReport",
    "ReadError",
    "UnsupportedLayerError",
    "WeightsError",
    "__version__",
    "check_parity",
    "convert",
    "load",
    "optimize",
    "read",
    "register_layer",
]

_HOMES = {
    "api": ("convert", "load", "read"),
    "errors": tuple(name for name in __all__ if name.endswith(("Error", "Warning"))),
    "graph": ("Graph",),
    "inference": ("optimize",),
    "layers": ("register_layer",),
    "parity.check": ("check_parity",),
    "parity.result": ("ParityReport",),
    "version": ("__version__",),
}
_HOME_OF = {name: f"{__name__}.{home}" for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the command line starts without numpy and protobuf."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
