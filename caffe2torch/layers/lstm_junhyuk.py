"""Lstm: the LSTM of OCR forks, a layer of its own beside Caffe's LSTM."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._onnx import to_float
from caffe2torch.layers.lstm import LSTM


@register_layer()
class Lstm(Layer):
    """c = s(f) c' + s(i) tanh(g), y = h = s(o) tanh(c), s the sigmoid; c' and h' start at 0.

    (i, f, o, g) = W_x x + W_h h' + b. caffe_ocr (lstm_layer_Junhyuk.cpp), CTPN (lstm_layer.cpp):
    bottom (T, N, D..), whose axes from the third on count as one, top (T, N, num_output).
    A bottom of two axes (T N, D) is read as its first author's code does: N is ``batch_size``,
    and the top has the shape (T N, num_output).

    Blobs: weight_x (4 num_output, D), weight_h (4 num_output, num_output), bias
    (4 num_output). ``clipping_threshold`` clips the gradient, not the output, and is left
    out here. Errors: no num_output, a bottom with fewer axes, T N not divisible by N. Each
    stream has its own h', as in the code for a GPU; that for a CPU adds the first one's to all.

    A second bottom of T flags makes it a ``FlaggedLstm``.
    """

    type = "Lstm"
    reads = Reads(slice(None), slice(None))
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
        for name in ("num_output", "batch_size"):
            if not getattr(param, name):
                raise net_error(proto, "must be positive", f"lstm_param.{name}")
        common = {
            "name": proto.name,
            "num_output": param.num_output,
            "weight_filler": param.weight_filler,
            "bias_filler": param.bias_filler,
            "weight_given": param.HasField("weight_filler"),
        }
        if len(proto.bottom) == 1:
            return cls(batch_size=param.batch_size, **common)
        if param.batch_size > 1:
            raise unsupported(
                proto,
                "with flags as a second bottom only 1 is converted: the forks read the flags of "
                "other steps for more streams",
                "lstm_param.batch_size",
            )
        return FlaggedLstm(expose_hidden=False, static_input=False, **common)

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


@dataclass(frozen=True)
class FlaggedLstm(LSTM):
    """``Lstm`` of one stream, whose state goes on at a step where the flag is not 0.

    Bottoms: x (T, D) or (T, 1, D..), flags (T, 1, ..). As in Caffe's LSTM, a pass begins with the
    state in which the last one ended, 0 at first. Refused: more streams, whose flags the forks
    read at other steps.
    """

    type = "Lstm"
    bottoms = (2, 2)
    ignores_lr_mult = False
    repeated_blobs = frozenset()

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape, flags = bottoms
        if len(shape) < 2:
            raise self.net_error(f"the bottom's shape {shape} must have the axes (T, N, D..)")
        if len(shape) > 2 and shape[1] != 1:
            raise self.unsupported(
                f"with flags as a second bottom only one stream is converted, not {shape[1]}: the "
                "forks read the flags of other steps for more",
                "bottom",
            )
        if flags[:1] != shape[:1] or math.prod(flags) != shape[0]:
            raise self.net_error(f"flags of shape {flags} are not ({shape[0]}, 1)", "bottom")
        return [(*shape[: min(2, len(shape) - 1)], self.num_output)]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        rows = 4 * self.num_output
        return [
            self._weight("weight_x", rows, _columns(bottoms[0])),
            self._weight("weight_h", rows, self.num_output),
            self._bias("bias", rows),
        ]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.FlaggedLSTM(**{s.name: s.shape for s in self.blob_specs(bottoms)})

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.module(*inputs)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        rows = g.op("Reshape", inputs[0], g.const([shape[0], _columns(shape)], np.int64))
        flags = g.op("Reshape", inputs[1], g.const([shape[0], 1], np.int64))
        flags = to_float(g, g.op("Not", g.op("Equal", flags, g.const(0.0))))
        (y,) = self.unrolled_onnx(g, rows, flags, (shape[0], 1))
        return [g.op("Squeeze", y, g.const([1], np.int64)) if len(shape) == 2 else y]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return bottoms[0][0] * 4 * self.num_output * (_columns(bottoms[0]) + self.num_output)


def _columns(shape: Shape) -> int:
    return math.prod(shape[min(2, len(shape) - 1) :])


def _onnx_gates(rows: FloatArray) -> FloatArray:
    """Rows of the gates i, f, o, g in ONNX's order i, o, f, c."""
    i, f, o, g = np.split(rows, 4)
    return np.concatenate([i, o, f, g])
