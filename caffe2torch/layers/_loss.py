"""What losses and metrics share: their tops, labels, ignored positions and normalisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import Layer, OnnxBuilder, Reads, Role, TorchBuilder
from caffe2torch.layers._onnx import to_float, to_int

FLT_MIN = float(np.finfo(np.float32).tiny)
LOG_THRESHOLD = 1e-20
"""Caffe's kLOG_THRESHOLD: smaller probabilities count as this."""


@dataclass(frozen=True)
class Loss(Layer):
    """A loss: one value without axes. Its weight in training never scales that value.

    A loss that declares no top has one of Caffe's making, which is no output of the net: here
    it then has none. The first axes of the first two bottoms must have the same size.
    """

    role = Role.LOSS
    reads = Reads(slice(1, None))
    bottoms = (2, 2)
    tops = (0, 1)
    barred_bottoms = frozenset({1})
    unforced_bottoms = frozenset({1})
    default_loss_weight = 1

    num_tops: int

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if not bottoms[0] or bottoms[0][:1] != bottoms[1][:1]:
            raise self.net_error(
                f"the bottoms' shapes {bottoms[0]} and {bottoms[1]} must have the same first size"
            )
        self.check_bottoms(bottoms)
        return self.top_shapes(bottoms)[: self.num_tops]

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        """Raise NetError for shapes that do not fit each other."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        """The shapes of all possible tops."""
        return [()]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if not self.num_tops:
            return ()
        values = self.values(t, inputs)
        several = len(self.top_shapes(bottoms)) > 1
        return values[0] if several and self.num_tops == 1 else values

    @abstractmethod
    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        """The loss in torch; a tuple with the other tops if there can be several."""

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return self.values_onnx(g, inputs) if self.num_tops else []

    @abstractmethod
    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        """``values`` of the tops that there are, in ONNX."""

    def check_legacy_axes(self, bottom: Shape) -> None:
        """Raise NetError for a bottom that Caffe cannot read as (N, C, H, W)."""
        if len(bottom) > 4:
            raise self.net_error(f"a bottom of shape {bottom} has more than four axes")

    def check_column(self, bottom: Shape, what: str) -> None:
        """Raise NetError unless ``bottom`` has one value for each item: (N, 1, 1, 1)."""
        self.check_legacy_axes(bottom)
        if any(size != 1 for size in bottom[1:]):
            raise self.net_error(f"{what} of shape {bottom} must have one value for each item")


def ignore_label(proto: Message) -> int | None:
    """``loss_param.ignore_label``; None if it is not given."""
    param = proto.loss_param
    return int(param.ignore_label) if param.HasField("ignore_label") else None


def normalization(proto: Message, default: str = "VALID") -> str:
    """``loss_param.normalization``, or what the older ``normalize`` means."""
    param = proto.loss_param
    if param.HasField("normalization"):
        return enum_name(param, "normalization")
    if param.HasField("normalize"):
        return "VALID" if param.normalize else "BATCH_SIZE"
    return default


class PickedOnnx(NamedTuple):
    """Values at the labels, with the class axis of size 1, the labels, and where they count.

    ``valid`` is float32, 0 or 1, and empty if all labels count.
    """

    values: str
    labels: str
    valid: str


def pick_onnx(
    g: OnnxBuilder, x: str, shape: Shape, labels: str, axis: int, ignore: int | None
) -> PickedOnnx:
    """``_runtime.losses.pick`` in ONNX, for ``x`` of the declared ``shape``."""
    target = [1 if a == axis else size for a, size in enumerate(shape)]
    if axis:
        target[0] = -1
    index = to_int(g, g.op("Reshape", labels, g.const(target, np.int64)))
    valid = ""
    if ignore is not None:
        is_valid = g.op("Not", g.op("Equal", index, g.const(ignore, np.int64)))
        index = g.op("Where", is_valid, index, g.const(0, np.int64))
        valid = to_float(g, is_valid)
    return PickedOnnx(g.op("GatherElements", x, index, axis=axis), index, valid)


def normalized_onnx(g: OnnxBuilder, losses: str, valid: str, mode: str, batch: str) -> str:
    """``_runtime.losses.normalized`` in ONNX; ``batch`` is a float32 value without axes."""
    total = g.op("ReduceSum", g.op("Mul", losses, valid) if valid else losses, keepdims=0)
    if mode == "NONE":
        return str(total)
    if mode == "BATCH_SIZE":
        count = batch
    elif mode == "VALID" and valid:
        count = g.op("ReduceSum", valid, keepdims=0)
    else:
        count = to_float(g, g.op("Size", losses))
    return str(g.op("Div", total, g.op("Max", count, g.const(1.0))))


def leading_count(g: OnnxBuilder, x: str, axis: int) -> str:
    """The number of items before ``axis`` of ``x``, as float32."""
    sizes = to_float(g, g.op("Shape", x, end=axis))
    return str(g.op("ReduceProd", sizes, keepdims=0))
