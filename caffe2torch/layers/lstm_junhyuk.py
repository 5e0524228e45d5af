"""Lstm: the LSTM of OCR forks, a layer of its own beside Caffe's LSTM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)


@register_layer()
class Lstm(Layer):
    """c = s(f) c' + s(i) tanh(g), y = h = s(o) tanh(c), s the sigmoid; c' and h' start at 0.

    (i, f, o, g) = W_x x + W_h h' + b. caffe_ocr (lstm_layer_Junhyuk.cpp), CTPN (lstm_layer.cpp):
    bottom (T, N, D..), whose axes from the third on count as one, top (T, N, num_output).
    A bottom of two axes (T N, D) is read as its first author's code does: N is ``batch_size``,
    and the top has the shape (T N, num_output).

    Blobs: weight_x (4 num_output, D), weight_h (4 num_output, num_output), bias
    (4 num_output). ``clipping_threshold`` clips the gradient, not the output, and is left
    out here. A second bottom, which says where sequences go on, is refused: the forks start a
    forward pass with the state in which the last one ended, and read the flags of other steps
    if N is not 1. Errors: no num_output, a bottom with fewer axes, T N not divisible by N.
    """

    type = "Lstm"
    parameters = Parameters(
        "lstm_param",
        """
        optional uint32 num_output = 1;
        optional float clipping_threshold = 2 [default = 0];
        optional FillerParameter weight_filler = 3;
        optional FillerParameter bias_filler = 4;
        optional uint32 batch_size = 5 [default = 1];
        """,
    )
    bottoms = (1, 2)

    num_output: int
    batch_size: int
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if len(proto.bottom) > 1:
            raise unsupported(
                proto,
                "its second bottom makes a forward pass start with the state in which the last "
                "one ended; remove it to start each pass at 0",
                "bottom",
            )
        for name in ("num_output", "batch_size"):
            if not getattr(param, name):
                raise net_error(proto, "must be positive", f"lstm_param.{name}")
        return cls(
            name=proto.name,
            num_output=param.num_output,
            batch_size=param.batch_size,
            weight_filler=param.weight_filler,
            bias_filler=param.bias_filler,
            weight_given=param.HasField("weight_filler"),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.net_error(f"the bottom's shape {shape} must have the axes (T, N, D..)")
        if len(shape) == 2 and shape[0] % self.batch_size:
            raise self.net_error(
                f"{shape[0]} rows are not a multiple of batch_size {self.batch_size}",
                "lstm_param.batch_size",
            )
        return [(*shape[: min(2, len(shape) - 1)], self.num_output)]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        rows, columns = 4 * self.num_output, _columns(bottoms[0])
        weight, given = self.weight_filler, self.weight_given
        return [
            BlobSpec("weight_x", (rows, columns), weight, given),
            BlobSpec("weight_h", (rows, self.num_output), weight, given),
            BlobSpec("bias", (rows,), self.bias_filler, given=True),
        ]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        streams = {"streams": self.batch_size} if len(bottoms[0]) == 2 else {}
        return t.runtime.lstm_of_sequences(t.params, inputs[0], **streams)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        streams = 0 if len(shape) > 2 else self.batch_size
        rows = g.const([0 if streams == 0 else -1, streams, _columns(shape)], np.int64)
        x = inputs[0] if len(shape) == 3 else g.op("Reshape", inputs[0], rows)
        bias = _onnx_gates(g.array(g.params["bias"]))
        arrays = [
            _onnx_gates(g.array(g.params["weight_x"])),
            _onnx_gates(g.array(g.params["weight_h"])),
            np.concatenate([bias, np.zeros_like(bias)]),
        ]
        learned = [g.const(array[None]) for array in arrays]
        y = g.op("LSTM", x, *learned, hidden_size=self.num_output)
        target = [-1, self.num_output] if streams else [0, -1, self.num_output]
        return [g.op("Reshape", y, g.const(target, np.int64))]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        one = 4 * self.num_output * (_columns(bottoms[0]) + self.num_output)
        return math.prod(tops[0][:-1]) * one


def _columns(shape: Shape) -> int:
    return math.prod(shape[min(2, len(shape) - 1) :])


def _onnx_gates(rows: FloatArray) -> FloatArray:
    """Rows of the gates i, f, o, g in ONNX's order i, o, f, c."""
    i, f, o, g = np.split(rows, 4)
    return np.concatenate([i, o, f, g])
