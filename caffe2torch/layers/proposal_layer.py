"""The Python layers that propose regions: the ``ProposalLayer`` of Faster R-CNN, SSH and MNC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, net_error, python_params, register_layer, unsupported
from caffe2torch.layers._proposals import RegionProposals, make_anchors
from caffe2torch.layers._regions import refuse_training

Settings = tuple[int, int, float | None, float]
"""Most boxes before and after suppression, its threshold, the least side."""


@dataclass(frozen=True)
class _ProposalLayer(RegionProposals):
    fixes_batch = True
    settings: ClassVar[tuple[Settings, Settings]]
    """Of the phases TRAIN and TEST."""
    keys: ClassVar[frozenset[str]] = frozenset({"feat_stride", "scales", "ratios", "base_size"})
    """What ``param_str`` may have."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        given = python_params(proto)
        strange = given.keys() - cls.keys
        if strange:
            raise unsupported(
                proto,
                f"{', '.join(sorted(strange))}: a parameter that the known {cls.type} does not "
                "have. If it changes nothing, remove it.",
                "python_param.param_str",
            )
        before, after, threshold, min_size = cls.settings[proto.phase]
        return cls(
            name=proto.name,
            anchors=make_anchors(
                _whole(proto, given.get("base_size", 16), "base_size"),
                _numbers(proto, given.get("ratios", (0.5, 1, 2)), "ratios"),
                _numbers(proto, given.get("scales", (8, 16, 32)), "scales"),
                np.round,
            ),
            stride=_whole(proto, given.get("feat_stride"), "feat_stride"),
            min_size=min_size,
            limits=(before, after),
            threshold=threshold,
            num_tops=len(proto.top),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        tops = super().infer_shapes(bottoms)
        if bottoms[0][0] != 1:
            raise self.net_error(f"it is for one image at a time, not for {bottoms[0][0]}")
        return tops


@register_layer("Python rpn.proposal_layer.ProposalLayer")
class ProposalLayer(_ProposalLayer):
    """The regions of a region proposal network (Faster R-CNN's lib/rpn/proposal_layer.py).

    Bottoms: scores (1, 2A, H, W), those of the background first; offsets (1, 4A, H, W); a row
    (height, width, scale) of the image, (1, 3). Tops: regions (R, 5), rows (0, x1, y1, x2, y2)
    by falling score, and, if there is a second, their scores (R, 1). R depends on the data.

    ``param_str``: ``feat_stride``, which is required, ``scales`` (default 8, 16, 32), and what
    variants of it also read: ``ratios`` (0.5, 1, 2) and ``base_size`` (16). Anchors are
    explained at ``make_anchors``, boxes at ``anchor_boxes``; they are cut off at the image's
    border. Boxes with a side of less than 16 times the image's scale are dropped, the best
    6000 go through suppression at an overlap of 0.7, and the best 300 remain; in phase TRAIN
    these are 12000 and 2000. These numbers are of the published configuration: a project may
    have changed them. Equal scores are in the order of (y, x, anchor); numpy's sort, which
    the layer uses, leaves their order open. No gradient goes through it.
    """

    type = "Python rpn.proposal_layer.ProposalLayer"
    settings = (12000, 2000, 0.7, 16), (6000, 300, 0.7, 16)


@register_layer("Python SSH.layers.proposal_layer.ProposalLayer")
class SshProposalLayer(_ProposalLayer):
    """The face candidates of one module of SSH (SSH/layers/proposal_layer.py).

    As Faster R-CNN's, but in phase TEST the best 1000 boxes of any size remain, without
    suppression; in phase TRAIN boxes have sides of 4 or more, and of the best 1000 those
    remain that overlap by 0.3 or less, at most 300. Without any box the regions are the one
    row (0, 0, 0, 16, 16), and there is no score.
    """

    type = "Python SSH.layers.proposal_layer.ProposalLayer"
    fallback = (0.0, 0.0, 0.0, 16.0, 16.0)
    settings = (1000, 300, 0.3, 4), (1000, 1000, None, 0)


@register_layer("Python pylayer.proposal_layer.ProposalLayer")
class MncProposalLayer(_ProposalLayer):
    """The regions of Multi-task Network Cascades (daijifeng001/MNC, lib/pylayer/proposal_layer.py).

    As Faster R-CNN's in phase TEST. In phase TRAIN its configurations differ in how many boxes
    remain, 300 or 2000, and a second top holds their places among all: it is refused.
    ``use_clip``, ``clip_base`` and ``gradient_scale`` are about gradients only.
    """

    type = "Python pylayer.proposal_layer.ProposalLayer"
    tops = (1, 1)
    settings = (12000, 2000, 0.7, 16), (6000, 300, 0.7, 16)
    keys = frozenset({"feat_stride", "use_clip", "clip_base", "gradient_scale"})

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_training(proto)
        return super().from_proto(proto)


def _whole(proto: Message, value: Any, key: str) -> int:
    if not isinstance(value, int) or value <= 0:
        raise net_error(
            proto,
            f"{key} is not given" if value is None else f"{key} {value!r} is not positive",
            "python_param.param_str",
        )
    return value


def _numbers(proto: Message, values: Any, key: str) -> npt.NDArray[np.float64]:
    values = values if isinstance(values, Sequence) else [values]
    if not values or not all(isinstance(v, int | float) and v > 0 for v in values):
        raise net_error(
            proto, f"{key} {values!r} are not positive numbers", "python_param.param_str"
        )
    return np.array(values, np.float64)
