"""caffe2torch: any Caffe model, turned into PyTorch and ONNX, with proof."""

from caffe2torch.api import Caffe2TorchWarning, convert, load, read
from caffe2torch.errors import (
    ArtefactError,
    Caffe2TorchError,
    NetError,
    ParityError,
    ReadError,
    UnsupportedLayerError,
    WeightsError,
)
from caffe2torch.graph import Graph
from caffe2torch.layers import register_layer
from caffe2torch.parity.check import check_parity

__version__ = "0.1.0"

__all__ = [
    "ArtefactError",
    "Caffe2TorchError",
    "Caffe2TorchWarning",
    "Graph",
    "NetError",
    "ParityError",
    "ReadError",
    "UnsupportedLayerError",
    "WeightsError",
    "check_parity",
    "convert",
    "load",
    "read",
    "register_layer",
]
