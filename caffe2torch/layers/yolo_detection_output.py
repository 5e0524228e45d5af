"""YoloDetectionOutput: the detections of YOLOv2 nets."""

from __future__ import annotations

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, Parameters, net_error, register_layer
from caffe2torch.layers._yolo import Anchors, YoloOutput, check_count


@register_layer()
class YoloDetectionOutput(YoloOutput):
    """``YoloOutput`` in which a box has its best class, if that scores the threshold or more.

    Fork: eric612/MobileNet-YOLO, yolo_detection_output_layer.cpp. The score is
    sigmoid(objectness) * softmax(classes). All bottoms, one or two square maps, have the same
    ``num_box`` (default 5) boxes of ``biases[2 n]`` x ``biases[2 n + 1]`` cells. Channels
    after a box's classes are not read; ``side``, ``coords`` and ``label_map_file`` have no
    effect.

    Errors: no num_classes, too few biases, channels not divisible by num_box or too few of
    them, a map that is not square.
    """

    type = "YoloDetectionOutput"
    bottoms = (1, 2)
    softmax = True
    parameters = Parameters(
        "yolo_detection_output_param",
        """
        optional uint32 side = 1 [default = 13];
        optional uint32 num_classes = 2 [default = 20];
        optional uint32 num_box = 3 [default = 5];
        optional uint32 coords = 4 [default = 4];
        optional float confidence_threshold = 5 [default = 0.01];
        optional float nms_threshold = 6 [default = 0.45];
        repeated float biases = 7;
        optional string label_map_file = 8;
        """,
    )

    sizes: Anchors
    """Width and height of the boxes of a cell, in cells."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        if not p.HasField("num_classes"):
            raise net_error(proto, "it must be given", "num_classes")
        if not p.num_classes or not p.num_box:
            raise net_error(proto, "num_classes and num_box must be positive")
        check_count(proto, "biases", len(p.biases), 2 * p.num_box, "its boxes need")
        return cls(
            name=proto.name,
            num_classes=p.num_classes,
            confidence_threshold=p.confidence_threshold,
            nms_threshold=p.nms_threshold,
            sizes=tuple((p.biases[2 * n], p.biases[2 * n + 1]) for n in range(p.num_box)),
        )

    def anchors(self, index: int) -> Anchors:
        return self.sizes

    def check_channels(self, shape: Shape, boxes: int) -> None:
        if shape[2] != shape[3]:
            raise self.net_error(f"a bottom of shape {shape} is not square")
        if shape[1] % boxes or shape[1] // boxes < 5 + self.num_classes:
            raise self.net_error(
                f"a bottom of shape {shape} should have {boxes} x (5 + {self.num_classes}) channels"
            )
