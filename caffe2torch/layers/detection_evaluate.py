"""DetectionEvaluate: an SSD net's hits and misses on a test set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, Role, net_error
from caffe2torch.layers._builders import TorchBuilder


@register_layer()
class DetectionEvaluate(Layer):
    """Detections matched with the ground truth (SSD's Caffe: detection_evaluate_layer.cpp).

    Bottoms: detections (1, 1, K, 7), ground truth (1, 1, M, 8). The top has five columns and
    a row for each class but the background and for each detection. It has no conversion; in
    a net whose ground truth comes from a data layer it is dropped, like all losses.
    """

    type = "DetectionEvaluate"
    role = Role.LOSS
    converts = False
    bottoms = (2, 2)

    num_classes: int
    background: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = proto.detection_evaluate_param
        if not p.HasField("num_classes"):
            raise net_error(proto, "is not given", "detection_evaluate_param.num_classes")
        return cls(proto.name, p.num_classes, p.background_label_id)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape, width in zip(bottoms, (7, 8), strict=True):
            if len(shape) != 4 or shape[:2] != (1, 1) or shape[3] != width:
                raise self.net_error(f"a bottom of shape {shape} should be (1, 1, K, {width})")
        classes = self.num_classes - (0 <= self.background < self.num_classes)
        return [(1, 1, classes + bottoms[0][2], 5)]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        raise self.unsupported(
            "it compares detections with a test set and has no conversion; convert the"
            " deploy net, which ends in DetectionOutput"
        )
