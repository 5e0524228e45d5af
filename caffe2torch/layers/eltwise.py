"""Eltwise: product, weighted sum or maximum of blobs of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add, mul
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    NOTHING,
    Backward,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._elementwise import scale_shift


@register_layer()
class Eltwise(Layer):
    """PROD, SUM (default) or MAX of two or more bottoms (Caffe: eltwise_layer.cpp).

    FlowNet's fork takes one bottom too, as its nets do with SUM and a ``coeff`` to scale it.

    SUM is sum_i coeff_i * x_i, where ``coeff`` is one number a bottom or absent (all 1).
    ``coeff`` with PROD is an error; with MAX it is ignored. Shapes must be equal: nothing is
    broadcast. MAX compares: where a is not above b it takes b, NaN or not, of the first two;
    a later bottom counts where it is above the maximum so far. Where a maximum is tied, its
    gradient goes to one bottom alone: to the later of the first two, otherwise to the earlier.
    """

    type = "Eltwise"
    shares_pixels = True
    bottoms = (1, None)

    operation: str
    coeff: tuple[float, ...]
    stable: bool
    """Whether the gradient of a product is computed without a division (stable_prod_grad)."""

    @property
    def works_in_place(self) -> bool:
        return self.operation == "PROD"

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.eltwise_param
        operation = enum_name(param, "operation")
        coeff = tuple(param.coeff)
        if len(proto.bottom) == 1 and not (operation == "SUM" and coeff):
            raise net_error(
                proto, "has 1 bottom; this type takes at least 2, or 1 with a coeff", "bottom"
            )
        if coeff and len(coeff) != len(proto.bottom):
            raise net_error(
                proto,
                f"{len(coeff)} coefficients for {len(proto.bottom)} bottoms; "
                "give one for each bottom or none",
                "eltwise_param.coeff",
            )
        if coeff and operation == "PROD":
            raise net_error(
                proto, "coefficients are for SUM, not for PROD; remove them", "eltwise_param.coeff"
            )
        if operation != "SUM" or not coeff:
            coeff = (1.0,) * len(proto.bottom)
        return cls(proto.name, operation, coeff, param.stable_prod_grad)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for i, shape in enumerate(bottoms):
            if shape != bottoms[0]:
                raise self.net_error(
                    f"bottom 0 has shape {bottoms[0]}, bottom {i} has shape {shape}; "
                    "Eltwise does not broadcast, they must be equal"
                )
        return [bottoms[0]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if self.operation == "PROD":
            return reduce(mul, inputs)
        if self.operation == "SUM":
            return reduce(add, map(scale_shift, inputs, self.coeff))
        return t.runtime.eltwise_max(*inputs)

    def backward_reads(self, in_place: bool) -> Reads:
        """PROD all of it; SUM and MAX no data: Caffe keeps which bottom was the largest."""
        if self.operation != "PROD":
            return NOTHING
        if self.stable:
            return Reads(always=in_place)
        return Reads(slice(None), slice(None), always=True)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        """Of PROD: the top's gradient times the others' product, which is y / x if not ``stable``.

        Where x is 0 that quotient is not a number. In place the first bottom's gradient is written
        over the top's before the two are multiplied, and the others find the result in its place.
        """
        (diff,), (y,) = found.diffs, found.tops
        made: list[Any] = []
        for i, (x, wanted) in enumerate(zip(found.bottoms, found.wanted, strict=True)):
            if not wanted:
                made.append(None)
                continue
            others = [other for j, other in enumerate(found.bottoms) if j != i]
            slope = reduce(mul, others) if self.stable else y / x
            if found.in_place and i == 0:
                diff = slope
            made.append(slope * diff)
            if found.in_place and i == 0:
                diff = made[0]
        return made

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.operation == "MAX":
            return [self._max_onnx(g, *inputs) if self.non_finite else g.op("Max", *inputs)]
        terms = [
            x if c == 1 and len(inputs) > 1 else g.op("Mul", x, g.const(c))
            for x, c in zip(inputs, self.coeff, strict=True)
        ]
        op_type = {"PROD": "Mul", "SUM": "Add"}[self.operation]
        return [reduce(lambda a, b: g.op(op_type, a, b), terms)]

    def _max_onnx(self, g: OnnxBuilder, first: str, second: str, *others: str) -> str:
        """The maximum as Caffe compares, which ONNX's is not where NaN comes in."""
        largest = g.op("Where", g.op("Greater", first, second), first, second)
        for x in others:
            largest = g.op("Where", g.op("Greater", x, largest), x, largest)
        return str(largest)
