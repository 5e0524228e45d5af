"""ProposalTarget: proposals of MS-CNN and Cascade R-CNN, drawn for training."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, Parameters, Role, register_layer
from caffe2torch.layers._mscnn import REGRESSION


@register_layer()
class ProposalTarget(Layer):
    """A random part of the proposals, with what is to be learned of each (MS-CNN's Caffe).

    As in proposal_target_layer.cpp. As it draws at random, its tops become inputs: regions
    (B, 5, 1, 1), labels (B, 1, 1, 1), targets and two kinds of weights (B, 4 * ``cls_num``,
    1, 1), or (B, 8, 1, 1) if not ``cls_aware``, the matched boxes (B, 6, 1, 1) and, if there
    is a seventh, weights of the samples (B, 1, 1, 1). B is ``batch_size`` (default 128); -1 is as
    many as there are proposals, and counts as 1.
    """

    type = "ProposalTarget"
    role = Role.SAMPLE
    bottoms = (2, 2)
    tops = (6, 7)
    parameters = Parameters(
        ("proposal_target_param", "bbox_reg_param"),
        f"""
        optional uint32 cls_num = 1;
        optional int32 batch_size = 2 [default = 128];
        optional float fg_fraction = 3 [default = 0.25];
        optional uint32 num_img_per_batch = 4 [default = 4];
        optional float fg_thr = 5 [default = 0.5];
        optional float bg_thr_hg = 6 [default = 0.5];
        optional float bg_thr_lw = 7 [default = 0.1];
        optional uint32 img_width = 8;
        optional uint32 img_height = 9;
        optional bool iou_weighted = 10 [default = false];
        optional float bbox_thr_lw = 11 [default = 0];
        optional float bbox_thr_hg = 12 [default = 10];
        optional bool pickup_discard = 13 [default = true];
        optional bool append_gtbox = 14 [default = true];
        {REGRESSION}
        """,
    )

    @classmethod
    def sampled_shapes(cls, proto: Message) -> Sequence[Shape]:
        p = cls.parameters.of(proto)
        targets = 4 * p.cls_num if p.cls_aware else 8
        columns = (5, 1, targets, targets, targets, 6, 1)[: len(proto.top)]
        return [(max(p.batch_size, 1), count, 1, 1) for count in columns]
