"""PriorBoxClustered: default boxes of listed widths and heights."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers import net_error, register_layer
from caffe2torch.layers.prior_box import FORKS, Box, PriorBox


@register_layer()
class PriorBoxClustered(PriorBox):
    """PriorBox whose boxes are ``width`` x ``height``, one pair a box, uncut.

    Fork: openvinotoolkit/training_toolbox_caffe, prior_box_clustered_layer.cpp, with the
    fields of ``prior_box_param``: clip, variance, img_size, step, offset as in PriorBox.
    Errors: no width, as many width as height not given.
    """

    type = "PriorBoxClustered"

    @classmethod
    def _boxes(cls, proto: Message) -> tuple[list[Box], list[Box]]:
        fork = FORKS.of(proto)
        if not fork.width:
            raise net_error(proto, "no width is given", "prior_box_param.width")
        if proto.prior_box_param.min_size or fork.fixed_size:
            raise net_error(
                proto, "the layer has width and height instead", "prior_box_param.min_size"
            )
        return super()._boxes(proto)
