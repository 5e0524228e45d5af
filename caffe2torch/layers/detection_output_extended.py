"""DetectionOutputExtended: detections of one class that say which cell and prior they are of."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, net_error, register_layer, unsupported
from caffe2torch.layers.detection_output import DetectionOutput


@register_layer()
class DetectionOutputExtended(DetectionOutput):
    """``DetectionOutput`` of label 1, whose rows end with prior, column and row of the cell.

    Fork: OpenVINO's training_toolbox_caffe, detection_output_extended_layer.cpp. Bottoms: offsets
    (N, H, W, 4A); scores (N, ..), 2 H W A of an image; priors (1, 2, 4HWA). The top is (1, 1, K,
    10). ``num_classes`` must be 2; ``background_label_id`` is not read. Refused:
    ``share_location: false``, for which the code takes other priors for the cells than there are.
    """

    type = "DetectionOutputExtended"
    bottoms = (3, 3)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.detection_output_param
        if param.num_classes != 2:
            raise net_error(
                proto, f"must be 2, not {param.num_classes}", "detection_output_param.num_classes"
            )
        if not param.share_location:
            raise unsupported(proto, "must be true", "detection_output_param.share_location")
        read = type(proto)()
        read.CopyFrom(proto)
        read.detection_output_param.background_label_id = 0
        return super().from_proto(read)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        loc, conf, prior = bottoms
        if len(loc) != 4 or loc[3] % 4:
            raise self.net_error(f"offsets {loc} are not (N, H, W, 4A)")
        count = prod(loc[1:]) // 4
        if conf[:1] != loc[:1] or prod(conf[1:]) != 2 * count:
            raise self.net_error(f"scores {conf} are not ({loc[0]}, {2 * count}), as offsets {loc}")
        super().infer_shapes([(loc[0], 4 * count), (loc[0], 2 * count), prior])
        return [(1, 1, 1, 10)]

    @property
    def _columns(self) -> int:
        return self._values + 3

    def cells(self, bottoms: Sequence[Shape]) -> tuple[int, int] | None:
        return bottoms[0][2], bottoms[0][3] // 4
