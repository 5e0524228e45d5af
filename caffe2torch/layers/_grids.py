"""Resizing as a product with a matrix for the rows and one for the columns, in ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._onnx import check_constant

Matrix = npt.NDArray[np.float64]


def weights(size: int, places: Matrix, width: float, kernel: Callable[[Matrix], Matrix]) -> Matrix:
    """``kernel((place - pixel) / width)`` of each place (rows) and each of ``size`` pixels."""
    check_constant(size * len(places))
    distances: Matrix = places[:, None] - np.arange(size)
    return kernel(distances / width)


def triangle(x: Matrix) -> Matrix:
    """1 - |x|, at least 0: the weights of linear interpolation."""
    return np.asarray(np.maximum(0, 1 - np.abs(x)))


def cubic(x: Matrix) -> Matrix:
    """Keys' cubic kernel with a = -0.5, which is 0 from |x| = 2 on."""
    x = np.abs(x)
    near = x * x * (1.5 * x - 2.5) + 1
    far = x * (x * (2.5 - 0.5 * x) - 4) + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def apply_onnx(g: OnnxBuilder, x: str, rows: Matrix, columns: Matrix) -> str:
    """Rows @ x @ columns.T for the last two axes of ``x``."""
    left, right = (g.const(_single(matrix)) for matrix in (rows, columns.T))
    return str(g.op("MatMul", g.op("MatMul", left, x), right))


def _single(values: Any) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32)
