"""LSTMUnit: one step of an LSTM as a layer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, Reads, TorchBuilder, register_layer
from caffe2torch.layers._recurrent import lstm_unit_onnx


@register_layer()
class LSTMUnit(Layer):
    """c = cont s(f) c' + s(i) tanh(g), h = s(o) tanh(c), s the sigmoid (lstm_unit_layer.cpp).

    Bottoms: c' (1, N, D), the gates i, f, o, g side by side (1, N, 4 D), cont (1, N).
    Tops: c and h, (1, N, D).
    """

    type = "LSTMUnit"
    reads = Reads(slice(None), slice(1))
    barred_bottoms = frozenset({2})
    unforced_bottoms = frozenset({2})
    bottoms = (3, 3)
    tops = (2, 2)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        cell, gates, cont = bottoms
        if len(cell) != 3 or cell[0] != 1:
            raise self.net_error(f"the cell state of shape {cell} must have the axes (1, N, D)")
        if gates != (1, cell[1], 4 * cell[2]) or cont != (1, cell[1]):
            raise self.net_error(
                f"a cell state of shape {cell} needs gates of {(1, cell[1], 4 * cell[2])} and cont "
                f"of {(1, cell[1])}, not {gates} and {cont}"
            )
        return [cell, cell]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        cell, gates, cont = inputs
        return t.runtime.lstm_unit(cell, gates, t.torch.unsqueeze(cont, -1))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        cell, gates, cont = inputs
        column = g.op("Unsqueeze", cont, g.const([2], np.int64))
        return lstm_unit_onnx(g, cell, gates, column, g.shape(cell)[2])
