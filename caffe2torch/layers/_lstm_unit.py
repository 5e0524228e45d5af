"""One step of an LSTM in ONNX."""

from __future__ import annotations

import numpy as np

from caffe2torch.layers._base import OnnxBuilder
from caffe2torch.layers._onnx import tanh


def lstm_unit_onnx(g: OnnxBuilder, cell: str, gates: str, cont: str, size: int) -> tuple[str, str]:
    """``_runtime.recurrent.lstm_unit`` in ONNX; an empty ``cell`` stands for 0."""
    parts = g.op("Split", gates, g.const([3 * size, size], np.int64), outputs=2, axis=-1)
    sizes = g.const([size] * 3, np.int64)
    i, f, o = g.op("Split", g.op("Sigmoid", parts[0]), sizes, outputs=3, axis=-1)
    new = g.op("Mul", i, tanh(g, parts[1]))
    if cell:
        new = g.op("Add", g.op("Mul", g.op("Mul", f, cont), cell), new)
    return new, g.op("Mul", o, tanh(g, new))
