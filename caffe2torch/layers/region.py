"""Region: the activations of YOLOv2's last map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Region(Layer):
    """Each of ``num`` boxes of a cell activated (training_toolbox_caffe: region_layer.cpp).

    Bottom (N, num * (coords + 1 + classes), H, W), top of the same shape. Of the channels of a
    box the first two, x and y, and the one after ``coords``, objectness, go through the
    logistic function, those after it through a softmax; the others stay. The fork's defaults
    are not public: ``num``, ``coords`` (2 or more) and ``classes`` are required.
    """

    type = "Region"
    parameters = Parameters(
        "region_param",
        f"""
        optional uint32 classes = {TEXT_ONLY};
        optional uint32 coords = {TEXT_ONLY + 1};
        optional uint32 num = {TEXT_ONLY + 2};
        """,
    )

    num: int
    coords: int
    classes: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        for field, least in (("num", 1), ("coords", 2), ("classes", 1)):
            if getattr(p, field) < least:
                raise net_error(
                    proto, f"it must be given, {least} or more", f"region_param.{field}"
                )
        return cls(name=proto.name, num=p.num, coords=p.coords, classes=p.classes)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        expected = self.num * (self.coords + 1 + self.classes)
        if shape[1] != expected:
            raise self.net_error(f"a bottom of shape {shape} should have {expected} channels")
        return [shape]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.activate_region(inputs[0], self.num, self.coords)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        _, channels, height, width = g.shape(inputs[0])
        split = [0, self.num, channels // self.num, height, width]
        x = g.op("Reshape", inputs[0], g.const(split, np.int64))
        sizes = [2, self.coords - 2, 1, self.classes]
        parts = g.op(
            "Split", x, g.const([n for n in sizes if n], np.int64), axis=2,
            outputs=4 if self.coords > 2 else 3,
        )  # fmt: skip
        centre, *rest, objects, classes = parts
        centre, objects = g.op("Sigmoid", centre), g.op("Sigmoid", objects)
        classes = g.op("Softmax", classes, axis=2)
        y = g.op("Concat", centre, *rest, objects, classes, axis=2)
        return [g.op("Reshape", y, g.const([0, channels, height, width], np.int64))]
