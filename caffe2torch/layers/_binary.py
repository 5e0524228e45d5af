"""Weights that count as their signs (zhaoweicai/hwgq), of a convolution and of an inner product."""

from __future__ import annotations

import numpy as np

from caffe2torch.graph import FloatArray

BINARY = """
    optional bool use_alpha = 1 [default = false];
    optional bool use_binarization = 2 [default = true];
"""
"""The declaration of their parameters."""


def binary_weight(weight: FloatArray, use_alpha: bool) -> FloatArray:
    """The signs of ``weight`` (num_output, ..), times each output's mean of |weight| if asked."""
    signs = np.where(weight >= 0, np.float32(1), np.float32(-1))
    axes = tuple(range(1, weight.ndim))
    scale = np.abs(weight).mean(axis=axes, keepdims=True) if use_alpha else 1
    return np.asarray(signs * scale, np.float32)
