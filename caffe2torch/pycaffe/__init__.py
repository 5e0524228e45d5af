"""Caffe's Python interface, so that programs that say ``import caffe`` run."""

from caffe2torch.pycaffe.layer import Layer
from caffe2torch.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe2torch.pycaffe.net import Net
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

TRAIN, TEST = 0, 1
__version__ = "1.0.0"

__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "Layer",
    "Net",
    "Timer",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
]
