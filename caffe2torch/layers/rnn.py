"""RNN: the simple recurrent net with tanh units."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import BlobSpec
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._onnx import tanh
from caffe2torch.layers._recurrent import Recurrent


@register_layer()
class RNN(Recurrent):
    """h = tanh(W_x x + b + W_s x_static + W_h (cont h')), y = tanh(W_o h + b_o).

    Caffe: rnn_layer.cpp. Blobs: weight_x, bias, weight_static if there is a static input,
    weight_h, weight_o, bias_o. The exposed state is h, not y.
    """

    type = "RNN"
    bottoms = (2, 4)
    tops = (1, 2)
    repeated_blobs = frozenset({"weight_h", "weight_o", "bias_o"})
    gates = 1
    num_states = 1

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        size = self.num_output
        output = [self._weight("weight_o", size, size), self._bias("bias_o", size)]
        return [*super().blob_specs(bottoms), *output]

    def step_onnx(self, g: OnnxBuilder, gates: str, cont: str, states: Sequence[str]) -> list[str]:
        return [tanh(g, gates)]

    def output_onnx(self, g: OnnxBuilder, hidden: str) -> str:
        output = g.op("Gemm", hidden, g.params["weight_o"], g.params["bias_o"], transB=1)
        return tanh(g, output)
