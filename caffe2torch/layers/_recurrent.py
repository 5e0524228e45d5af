"""RNN and LSTM: a net unrolled over time, with a signal that says where sequences go on."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import BlobSpec, Layer, OnnxBuilder, TorchBuilder, net_error
from caffe2torch.layers._onnx import tanh

MOST_STEPS = 2000
"""Of a net in ONNX, which takes some twenty nodes a step."""


@dataclass(frozen=True)
class Recurrent(Layer):
    """The common part of recurrent layers (Caffe: recurrent_layer.cpp).

    Bottoms: x (T, N, D..), whose axes from the third on count as one; cont (T, N), which
    multiplies the state of the step before (0 starts a sequence); optionally a static
    input (N, D..), added at every step; with ``expose_hidden`` the initial states, each
    (1, N, num_output). Tops: the outputs (T, N, num_output) and, with ``expose_hidden``, the
    last states.

    Without ``expose_hidden`` the state before the first step is 0 in the first pass and the
    last state of the pass before in others: a sequence goes on where cont is not 0. Gradients
    do not flow from pass to pass, nor through exposed states.
    """

    barred_bottoms = frozenset({1})
    unforced_bottoms = frozenset({1})
    whole_backward = True
    fixes_batch = True
    repeated_blobs: ClassVar[frozenset[str]] = frozenset({"weight_h"})
    """Learned blobs of which Caffe's unrolled net has one for each step, all on one memory."""
    gates: ClassVar[int]
    """Rows of the input weights for each output."""
    num_states: ClassVar[int]

    num_output: int
    expose_hidden: bool
    static_input: bool
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.recurrent_param
        if not param.num_output:
            raise net_error(proto, "must be positive", "recurrent_param.num_output")
        exposed = cls.num_states if param.expose_hidden else 0
        if not 2 <= len(proto.bottom) - exposed <= 3:
            raise net_error(
                proto,
                f"has {len(proto.bottom)} bottoms; with expose_hidden "
                f"{str(param.expose_hidden).lower()} it takes {2 + exposed} or {3 + exposed}",
                "bottom",
            )
        if len(proto.top) != 1 + exposed:
            raise net_error(
                proto,
                f"has {len(proto.top)} tops; with expose_hidden "
                f"{str(param.expose_hidden).lower()} it has {1 + exposed}",
                "top",
            )
        return cls(
            name=proto.name,
            num_output=param.num_output,
            expose_hidden=param.expose_hidden,
            static_input=len(proto.bottom) - exposed == 3,
            weight_filler=param.weight_filler,
            bias_filler=param.bias_filler,
            weight_given=param.HasField("weight_filler"),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, cont = bottoms[:2]
        if len(x) < 3:
            raise self.net_error(f"x of shape {x} must have the axes (T, N, D..)")
        if cont != x[:2]:
            raise self.net_error(f"cont has the shape {cont}; x of shape {x} needs {x[:2]}")
        if self.static_input and (len(bottoms[2]) < 2 or bottoms[2][0] != x[1]):
            raise self.net_error(
                f"a static input of shape {bottoms[2]} must have the axes ({x[1]}, D..)"
            )
        state = (1, x[1], self.num_output)
        states = bottoms[2 + self.static_input :]
        if any(shape != state for shape in states):
            raise self.net_error(f"initial states of shapes {states} must have the shape {state}")
        return [(*x[:2], self.num_output), *[state] * len(states)]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        rows = self.gates * self.num_output
        specs = [
            self._weight("weight_x", rows, math.prod(bottoms[0][2:])),
            self._bias("bias", rows),
        ]
        if self.static_input:
            specs.append(self._weight("weight_static", rows, math.prod(bottoms[2][1:])))
        return [*specs, self._weight("weight_h", rows, self.num_output)]

    @property
    def remembers(self) -> bool:
        return not self.expose_hidden

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        module = getattr(t.runtime, f"Caffe{self.type}")
        return module(**{spec.name: spec.shape for spec in self.blob_specs(bottoms)})

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x, cont, *rest = inputs
        options: dict[str, Any] = {"static": rest.pop(0)} if self.static_input else {}
        if rest:
            options["states"] = tuple(rest)
        tops = t.module(x, cont, **options)
        return tops if self.expose_hidden else tops[0]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, cont, *rest = inputs
        static = ""
        if self.static_input:
            flat = g.op("Flatten", rest.pop(0), axis=1)
            static = g.op("Gemm", flat, g.params["weight_static"], transB=1)
        states = [g.op("Squeeze", state, g.const([0], np.int64)) for state in rest]
        rows, conts = _rows(g, x), _rows(g, cont, 1)
        return self.unrolled_onnx(g, rows, conts, g.shape(cont), static, states)

    def unrolled_onnx(
        self,
        g: OnnxBuilder,
        rows: str,
        conts: str,
        size: Shape,
        static: str = "",
        states: Sequence[str] = (),
    ) -> Sequence[str]:
        """The tops for rows (T * N, D) and conts (T * N, 1), ``size`` being T, N."""
        steps, streams = size
        if steps > MOST_STEPS:
            raise self.unsupported(
                f"{steps} time steps are too many to write out one by one in ONNX (at most "
                f"{MOST_STEPS}). Give the input a smaller shape, or convert to torch."
            )
        rows = g.op("Gemm", rows, g.params["weight_x"], g.params["bias"], transB=1)
        all_gates = _split(g, rows, steps, streams)
        all_conts = _split(g, conts, steps, streams)
        outputs = []
        for gates, go_on in zip(all_gates, all_conts, strict=True):
            if static:
                gates = g.op("Add", gates, static)
            if states:
                hidden = g.op("Mul", states[0], go_on)
                gates = g.op("Gemm", hidden, g.params["weight_h"], gates, transB=1)
            states = self.step_onnx(g, gates, go_on, states)
            outputs.append(states[0])
        y = self.output_onnx(g, g.op("Concat", *outputs, axis=0))
        y = g.op("Reshape", y, g.const([steps, streams, self.num_output], np.int64))
        if not self.expose_hidden:
            return [y]
        return [y, *(g.op("Unsqueeze", state, g.const([0], np.int64)) for state in states)]

    @abstractmethod
    def step_onnx(self, g: OnnxBuilder, gates: str, cont: str, states: Sequence[str]) -> list[str]:
        """The states after one time step, in ONNX; no states stand for states of 0."""

    def output_onnx(self, g: OnnxBuilder, hidden: str) -> str:
        """The layer's output for the hidden states of all steps, in ONNX."""
        return hidden

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        steps, streams = bottoms[1]
        weights = [s for s in self.blob_specs(bottoms) if len(s.shape) == 2]
        return streams * sum(
            math.prod(s.shape) * (1 if s.name == "weight_static" else steps) for s in weights
        )

    def _weight(self, name: str, rows: int, columns: int) -> BlobSpec:
        return BlobSpec(name, (rows, columns), self.weight_filler, self.weight_given)

    def _bias(self, name: str, rows: int) -> BlobSpec:
        return BlobSpec(name, (rows,), self.bias_filler, given=True)


def _rows(g: OnnxBuilder, value: str, columns: int | None = None) -> str:
    """``value`` (T, N, D..) as (T * N, D)."""
    columns = columns or math.prod(g.shape(value)[2:])
    return str(g.op("Reshape", value, g.const([-1, columns], np.int64)))


def _split(g: OnnxBuilder, rows: str, steps: int, streams: int) -> Sequence[str]:
    """Rows (T * N, D) as T values (N, D)."""
    if steps == 1:
        return [rows]
    sizes = g.const([streams] * steps, np.int64)
    return list(g.op("Split", rows, sizes, outputs=steps, axis=0))


def lstm_unit_onnx(g: OnnxBuilder, cell: str, gates: str, cont: str, size: int) -> tuple[str, str]:
    """``_runtime.recurrent.lstm_unit`` in ONNX; an empty ``cell`` stands for 0."""
    parts = g.op("Split", gates, g.const([3 * size, size], np.int64), outputs=2, axis=-1)
    sizes = g.const([size] * 3, np.int64)
    i, f, o = g.op("Split", g.op("Sigmoid", parts[0]), sizes, outputs=3, axis=-1)
    new = g.op("Mul", i, tanh(g, parts[1]))
    if cell:
        new = g.op("Add", g.op("Mul", g.op("Mul", f, cont), cell), new)
    return new, g.op("Mul", o, tanh(g, new))
