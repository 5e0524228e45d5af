"""The Python layer of MNC that makes masks of rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._regions import refuse_training

SIZE = 21
"""Height and width of a mask: MASK_SIZE of every published configuration."""


@register_layer("Python pylayer.mask_layer.MaskLayer")
class MaskLayer(Layer):
    """Rows of 441 numbers as masks (R, 1, 21, 21) (daijifeng001/MNC, lib/pylayer/mask_layer.py).

    Errors: rows of another length; phase TRAIN, where it also finds a label for each mask.
    """

    type = "Python pylayer.mask_layer.MaskLayer"

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_training(proto)
        return cls(proto.name)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        if len(shape) < 2 or prod(shape[1:]) != SIZE**2:
            raise self.net_error(f"the masks' shape {shape} is not (R, {SIZE**2})")
        return [(shape[0], 1, SIZE, SIZE)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return inputs[0].reshape(-1, 1, SIZE, SIZE)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Reshape", inputs[0], g.const([-1, 1, SIZE, SIZE], np.int64))]
