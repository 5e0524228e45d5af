"""LabelSpecificAdd: the margin that AM-Softmax takes off the score of the true class."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    NOTHING,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    register_layer,
    unsupported,
)


@register_layer()
class LabelSpecificAdd(Layer):
    """y = x in phase TEST; in TRAIN x + ``bias`` where x is the label's score and above -bias.

    Fork: happynear/caffe-windows, label_specific_add.cpp. Bottoms: x (N, ..), labels of N numbers.
    A second top is the bias, (1), and 0 in phase TEST. The gradient is the top's.
    ``transform_test`` has no effect in phase TEST, as in the code.
    Refused in phase TRAIN: a positive bias, of which OpenVINO's fork takes the negative, and
    ``bias_base``, by which the bias changes from pass to pass. The margin has no ONNX form.
    """

    type = "LabelSpecificAdd"
    reads = NOTHING
    bottoms = (2, 2)
    tops = (1, 2)
    works_in_place = True
    index_bottoms = frozenset({1})
    barred_bottoms = frozenset({1})
    parameters = Parameters(
        "label_specific_add_param",
        """
        optional float bias = 1 [default = 0];
        optional bool transform_test = 2 [default = false];
        optional float bias_base = 3 [default = 0];
        optional float bias_gamma = 4 [default = 0];
        optional float bias_power = 5 [default = 1];
        optional float bias_min = 6 [default = 0];
        optional float bias_max = 7 [default = 0];
        optional uint32 iteration = 8 [default = 0];
        """,
    )

    bias: float
    """0 in phase TEST."""
    num_tops: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        if enum_name(proto, "phase") == "TEST":
            return cls(proto.name, 0.0, len(proto.top))
        field = "label_specific_add_param"
        if p.HasField("bias_base"):
            raise unsupported(
                proto,
                "by it the bias changes from pass to pass; give a bias alone",
                f"{field}.bias_base",
            )
        if p.bias > 0:
            raise unsupported(
                proto,
                f"{p.bias:g} is added in one fork and subtracted in another; a negative number is "
                "added in both",
                f"{field}.bias",
            )
        return cls(proto.name, p.bias, len(proto.top))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, labels = bottoms
        if not x or prod(labels) != x[0]:
            raise self.net_error(f"{prod(labels)} labels for a bottom of shape {x}")
        return [x, (1,)][: self.num_tops]

    def index_count(self, bottoms: Sequence[Shape]) -> int:
        return prod(bottoms[0][1:])

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x, labels = inputs
        y = t.runtime.add_margin(x, labels, self.bias) if self.bias else x.clone()
        return [y, x.new_full((1,), self.bias)] if self.num_tops == 2 else y

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.bias:
            raise self.unsupported(
                "the margin of phase TRAIN has no ONNX form; convert for phase TEST", "phase"
            )
        tops = [inputs[0], g.const([0.0])][: self.num_tops]
        return [g.op("Identity", top) for top in tops]
