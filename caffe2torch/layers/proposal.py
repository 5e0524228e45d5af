"""Proposal: the regions of a region proposal network, as a layer in C++."""

from __future__ import annotations

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, Parameters, net_error, register_layer
from caffe2torch.layers._proposals import RegionProposals, make_anchors


@register_layer()
class Proposal(RegionProposals):
    """The regions of a region proposal network (PVANet's Caffe: proposal_layer.cpp).

    Bottoms: scores (N, 2A, H, W), those of the background first; offsets (N, 4A, H, W); rows
    (height, width, scale of the height, scale of the width) of the images, (N, 4) or more;
    with rows of three the one scale is that of both, where Caffe would read past the end. Tops:
    regions (R, 5), rows (image, x1, y1, x2, y2) by image and falling score, and, if there is a
    second, their scores (R). R depends on the data.

    Anchors are those of ``base_size`` (default 16), each ``ratio`` and ``scale``, at
    steps of ``feat_stride`` (16); see ``make_anchors`` and ``anchor_boxes``. Boxes are cut off
    at the image's border. A box with a side of less than ``min_size`` (16) times the
    scale stays, with score 0. The best ``pre_nms_topn`` (6000) of an image go through
    suppression at an overlap of ``nms_thresh`` (0.7), and the best ``post_nms_topn`` (300)
    remain. Equal scores are in the order of (y, x, anchor), which Caffe's sort does not keep.
    No gradient goes through it.
    """

    type = "Proposal"
    drop_small = False
    scores_shape = (1,)
    parameters = Parameters(
        "proposal_param",
        """
        optional uint32 feat_stride = 1 [default = 16];
        optional uint32 base_size = 2 [default = 16];
        optional uint32 min_size = 3 [default = 16];
        repeated float ratio = 4;
        repeated float scale = 5;
        optional uint32 pre_nms_topn = 6 [default = 6000];
        optional uint32 post_nms_topn = 7 [default = 300];
        optional float nms_thresh = 8 [default = 0.7];
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        for field in ("ratio", "scale"):
            if not getattr(p, field) or min(getattr(p, field)) <= 0:
                raise net_error(proto, "needs values, all positive", f"proposal_param.{field}")
        for field in ("feat_stride", "base_size", "pre_nms_topn", "post_nms_topn"):
            if not getattr(p, field):
                raise net_error(proto, "must be greater than 0", f"proposal_param.{field}")
        return cls(
            name=proto.name,
            anchors=make_anchors(
                p.base_size, np.array(p.ratio, np.float32), np.array(p.scale, np.float32), _round
            ),
            stride=p.feat_stride,
            min_size=p.min_size,
            limits=(p.pre_nms_topn, p.post_nms_topn),
            threshold=p.nms_thresh,
            num_tops=len(proto.top),
        )

    def size_scales(self, info: Shape) -> tuple[int, int]:
        return (3, 2) if info[1] > 3 else (2, 2)


def _round(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> object:
    """Halves go up, as the C++ code rounds positive numbers."""
    return np.floor(values + np.float32(0.5))
