"""Caffe's Python interface, so that programs that say ``import caffe`` run."""

from caffe2torch.pycaffe import io
from caffe2torch.pycaffe.blob import (
    Blob,
    BlobVec,
    BoolVec,
    DtypeVec,
    IntVec,
    LayerVec,
    NetVec,
    RawBlobVec,
    StringVec,
)
from caffe2torch.pycaffe.classifier import Classifier
from caffe2torch.pycaffe.detector import Detector
from caffe2torch.pycaffe.layer import Layer
from caffe2torch.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe2torch.pycaffe.net import Net
from caffe2torch.pycaffe.net_spec import NetSpec, layers, params, to_proto
from caffe2torch.pycaffe.process import (
    NCCL,
    Timer,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from caffe2torch.pycaffe.solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    Solver,
    get_solver,
)

TRAIN, TEST = 0, 1
__version__ = "1.0.0"

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Classifier",
    "Blob",
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "LayerVec",
    "NetVec",
    "RawBlobVec",
    "StringVec",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
