"""FrcnnProposal: the regions of a region proposal network whose settings are not in the net."""

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
    unsupported,
)
from caffe2torch.layers._proposals import RegionProposals
from caffe2torch.layers._regions import refuse_training

SETTINGS = (
    "test_rpn_pre_nms_top_n",
    "test_rpn_post_nms_top_n",
    "test_rpn_nms_thresh",
    "test_rpn_min_size",
)


@register_layer()
class FrcnnProposal(RegionProposals):
    """The regions of a region proposal network (makefile/frcnn, frcnn_proposal_layer.cpp).

    Bottoms: scores (1, 2A, H, W), those of the background first; offsets (1, 4A, H, W); a row
    (height, width, scale) of the image, (1, 3). Tops: regions (R, 5, 1, 1), rows (0, x1, y1, x2,
    y2) by falling score, and, if there is a second, their scores (R, 1, 1, 1). R depends on the
    data.

    The program has the settings in a configuration file of its own (``examples/FRCNN/config``).
    Here they are asked for in ``proposal_param``, under the names of that file: ``anchors``, four
    numbers each; ``feat_stride``; and those of ``SETTINGS``. Boxes (see ``anchor_boxes``) are cut
    off at the image's border, those with a side of less than ``test_rpn_min_size``, cut to a
    whole number, times the scale are dropped, the best ``test_rpn_pre_nms_top_n`` go through
    suppression at an overlap of ``test_rpn_nms_thresh``, and the best ``test_rpn_post_nms_top_n``
    remain, equal scores from the last box on. No gradient goes through it.

    Refused: ``test_rpn_score_thresh`` and ``test_soft_nms`` other than 0, their default; phase
    TRAIN.
    """

    type = "FrcnnProposal"
    fixes_batch = True
    last_first = True
    parameters = Parameters(
        "proposal_param",
        f"""
        optional uint32 feat_stride = {TEXT_ONLY};
        repeated float anchors = {TEXT_ONLY + 1};
        optional int32 test_rpn_pre_nms_top_n = {TEXT_ONLY + 2};
        optional int32 test_rpn_post_nms_top_n = {TEXT_ONLY + 3};
        optional float test_rpn_nms_thresh = {TEXT_ONLY + 4};
        optional float test_rpn_min_size = {TEXT_ONLY + 5};
        optional float test_rpn_score_thresh = {TEXT_ONLY + 6} [default = 0];
        optional int32 test_soft_nms = {TEXT_ONLY + 7} [default = 0];
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_training(proto)
        p = cls.parameters.of(proto)
        lacking = [name for name in ("feat_stride", *SETTINGS) if not p.HasField(name)]
        lacking += ["anchors"] * (not p.anchors)
        if lacking:
            raise net_error(
                proto,
                f"{', '.join(lacking)}: the net does not say it, for its program has it in a "
                "configuration file; write its value from there into the layer: proposal_param "
                f"{{ {lacking[0]}: .. }}",
                "proposal_param",
            )
        for name in ("test_rpn_score_thresh", "test_soft_nms"):
            if getattr(p, name):
                raise unsupported(proto, "only 0 is converted", f"proposal_param.{name}")
        if len(p.anchors) % 4:
            raise net_error(
                proto, f"{len(p.anchors)} numbers; give four an anchor", "proposal_param.anchors"
            )
        for name in ("feat_stride", *SETTINGS[:2]):
            if getattr(p, name) <= 0:
                raise net_error(proto, "must be greater than 0", f"proposal_param.{name}")
        anchors = np.array(p.anchors).reshape(-1, 4).tolist()
        return cls(
            name=proto.name,
            anchors=tuple(map(tuple, anchors)),
            stride=p.feat_stride,
            min_size=int(p.test_rpn_min_size),
            limits=(p.test_rpn_pre_nms_top_n, p.test_rpn_post_nms_top_n),
            threshold=p.test_rpn_nms_thresh,
            num_tops=len(proto.top),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        tops = super().infer_shapes(bottoms)
        if bottoms[0][0] != 1:
            raise self.net_error(f"it is for one image at a time, not for {bottoms[0][0]}")
        return [(*shape, 1, 1) for shape in tops]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        tops = super().to_torch(t, inputs, bottoms)
        if self.num_tops == 1:
            return tops[..., None, None]
        return [tops[i][..., None, None] for i in range(2)]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        axes = g.const([2, 3], np.int64)
        return [g.op("Unsqueeze", top, axes) for top in super().to_onnx(g, inputs)]
