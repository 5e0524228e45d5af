"""Caffe's Python interface, so that programs that say ``import caffe`` run."""

from caffe2torch.pycaffe.layer import Layer
from caffe2torch.pycaffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe2torch.pycaffe.net import Net

TRAIN, TEST = 0, 1
__version__ = "1.0.0"

__all__ = [
    "TEST",
    "TRAIN",
    "Layer",
    "Net",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
]
