"""caffe2torch: any Caffe model, turned into PyTorch and ONNX, with proof."""

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
from caffe2torch.layers import register_layer
from caffe2torch.optimize import optimize
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
