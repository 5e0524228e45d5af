"""SqueezeNet with the original Caffe weights: the model, its weights and its input."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from caffe2torch.preprocessing import Preprocessing
from squeezenet.preprocess import preprocess

if TYPE_CHECKING:
    from squeezenet.model import SqueezeNet
    from squeezenet.weights import load_pretrained

__all__ = ["Preprocessing", "SqueezeNet", "load_pretrained", "preprocess"]

_lazy = {"SqueezeNet": "squeezenet.model", "load_pretrained": "squeezenet.weights"}


def __getattr__(name: str) -> Any:
    if name not in _lazy:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_lazy[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
