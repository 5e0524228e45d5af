"""DummyData: tops filled with a constant."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, TypeVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Role,
    TorchBuilder,
    net_error,
    register_layer,
)

LEGACY = ("num", "channels", "height", "width")

T = TypeVar("T")


@register_layer()
class DummyData(Layer):
    """Tops that hold one number everywhere (Caffe: dummy_data_layer.cpp).

    ``data_filler`` is given once for all tops, once for each, or not at all (constant 0);
    ``shape`` once for all or once for each, as are its old form ``num``, ``channels``,
    ``height`` and ``width``. Other fillers than constant draw new random numbers at every
    pass and have no conversion: all tops become inputs then. Else they are filled once: what a
    layer changes in them in place is there in the next pass.
    """

    type = "DummyData"
    bottoms = (0, 0)
    keeps_tops = True
    tops = (1, None)

    shapes: tuple[Shape, ...]
    values: tuple[float, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        count = len(proto.top)
        fillers = proto.dummy_data_param.data_filler
        values = _one_or_each(proto, "data_filler", [f.value for f in fillers] or [0.0], count)
        return cls(name=proto.name, shapes=_shapes(proto), values=tuple(values))

    @classmethod
    def role_of(cls, proto: Message) -> Role:
        fillers = proto.dummy_data_param.data_filler
        return Role.COMPUTE if all(f.type == "constant" for f in fillers) else Role.SAMPLE

    @classmethod
    def sampled_shapes(cls, proto: Message) -> Sequence[Shape]:
        return _shapes(proto)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return self.shapes

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return all(map(isfinite, self.values))

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        # It holds the numbers, so that the tops are on the device that the module is moved to.
        return t.runtime.Constants(self.values, [[*map(int, shape)] for shape in self.shapes])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        tops = zip(self.values, self.shapes, strict=True)
        return [g.op("Expand", g.const(v), g.const(shape, np.int64)) for v, shape in tops]


def _shapes(proto: Message) -> tuple[Shape, ...]:
    param, count = proto.dummy_data_param, len(proto.top)
    legacy = {field: list(getattr(param, field)) for field in LEGACY}
    if not any(legacy.values()):
        shapes = [tuple(shape.dim) for shape in param.shape]
        return tuple(_one_or_each(proto, "shape", shapes, count))
    if len(param.shape):
        raise net_error(
            proto,
            "both shape and the old num, channels, height, width are given; keep shape",
            "dummy_data_param.shape",
        )
    columns = [_one_or_each(proto, field, sizes, count) for field, sizes in legacy.items()]
    return tuple(zip(*columns, strict=True))


def _one_or_each(proto: Message, field: str, given: list[T], count: int) -> list[T]:
    if len(given) not in (1, count):
        raise net_error(
            proto,
            f"it is given {len(given)} times for {count} tops; give one for all or one for each",
            f"dummy_data_param.{field}",
        )
    return given if len(given) == count else given * count
