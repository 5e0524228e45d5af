"""LSTM: long short-term memory."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.layers import register_layer
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._recurrent import Recurrent, lstm_unit_onnx


@register_layer()
class LSTM(Recurrent):
    """c = cont s(f) c' + s(i) tanh(g), y = h = s(o) tanh(c), s the sigmoid (Caffe: lstm_layer.cpp).

    (i, f, o, g) = W_x x + b + W_s x_static + W_h (cont h'). Blobs: weight_x, bias,
    weight_static if there is a static input, weight_h. The exposed states are h, c.
    """

    type = "LSTM"
    bottoms = (2, 5)
    tops = (1, 3)
    gates = 4
    num_states = 2

    def step_onnx(self, g: OnnxBuilder, gates: str, cont: str, states: Sequence[str]) -> list[str]:
        cell, hidden = lstm_unit_onnx(g, states[1] if states else "", gates, cont, self.num_output)
        return [hidden, cell]
