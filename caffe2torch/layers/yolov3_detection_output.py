"""Yolov3DetectionOutput: the detections of YOLOv3 nets."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, Parameters, net_error, register_layer, unsupported
from caffe2torch.layers._yolo import Anchors, YoloOutput, check_count


@register_layer()
class Yolov3DetectionOutput(YoloOutput):
    """``YoloOutput`` in which a box has every class whose score is above the threshold.

    Fork: eric612/MobileNet-YOLO, yolov3_detection_output_layer.cpp. The score is
    sigmoid(objectness) * sigmoid(class). Bottom i has the ``num_box`` (default 3) boxes that
    ``mask`` names from i * (number of masks / number of bottoms) on: box m is
    ``biases[2 m]`` x ``biases[2 m + 1]`` pixels, ``anchors_scale[i]`` pixels to a cell.

    Errors: no num_classes; another number of bottoms than ``mask_group_num`` (default 2); too
    few masks, biases or scales. ``gaussian_box`` is refused: that fork's CPU code reads and
    writes beside its arrays for it. So is a layer without ``nms_threshold``, which forks set to
    0.45 (eric612) or 0.4 (yuqj1991).
    """

    type = "Yolov3DetectionOutput"
    bottoms = (1, None)
    softmax = False
    parameters = Parameters(
        "yolov3_detection_output_param",
        """
        optional uint32 num_classes = 1 [default = 20];
        optional uint32 num_box = 2 [default = 3];
        optional float confidence_threshold = 3 [default = 0.01];
        optional float nms_threshold = 4 [default = 0.45];
        repeated float biases = 5;
        repeated uint32 anchors_scale = 6;
        optional uint32 mask_group_num = 7 [default = 2];
        repeated uint32 mask = 8;
        optional bool gaussian_box = 9 [default = false];
        """,
    )

    sizes: tuple[Anchors, ...]
    """Width and height of the boxes of each bottom, in cells."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        maps = len(proto.bottom)
        if not p.HasField("num_classes"):
            raise net_error(proto, "it must be given", "num_classes")
        if p.gaussian_box:
            raise unsupported(proto, "that fork's CPU code is undefined for it", "gaussian_box")
        if not p.HasField("nms_threshold"):
            raise unsupported(
                proto,
                "without it forks take 0.45 (eric612's) or 0.4 (yuqj1991's): write the number",
                "nms_threshold",
            )
        if maps != p.mask_group_num:
            raise net_error(proto, f"{p.mask_group_num}, but {maps} bottoms", "mask_group_num")
        group = len(p.mask) // maps
        last = (maps - 1) * group + p.num_box
        check_count(proto, "mask", len(p.mask), max(last, 1), "its boxes need")
        check_count(proto, "anchors_scale", len(p.anchors_scale), maps, "its bottoms need")
        masks = [p.mask[i * group : i * group + p.num_box] for i in range(maps)]
        highest = max(max(mask, default=0) for mask in masks)
        check_count(proto, "biases", len(p.biases), 2 * highest + 2, "its masks need")
        if not p.num_classes or not p.num_box or not all(p.anchors_scale):
            raise net_error(proto, "num_classes, num_box and anchors_scale must be positive")
        return cls(
            name=proto.name,
            num_classes=p.num_classes,
            confidence_threshold=p.confidence_threshold,
            nms_threshold=p.nms_threshold,
            sizes=tuple(
                tuple((p.biases[2 * m] / scale, p.biases[2 * m + 1] / scale) for m in mask)
                for mask, scale in zip(masks, p.anchors_scale, strict=False)
            ),
        )

    def anchors(self, index: int) -> Anchors:
        return self.sizes[index]
