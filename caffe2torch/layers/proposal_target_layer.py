"""The Python layer that draws proposals for the training of Faster R-CNN."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, Role, net_error, python_params, register_layer


@register_layer("Python rpn.proposal_target_layer.ProposalTargetLayer")
class ProposalTargetLayer(Layer):
    """A random part of the proposals, with what is to be learned of each (Faster R-CNN).

    As in lib/rpn/proposal_target_layer.py. As it draws at random, its tops become inputs:
    regions (R, 5), labels (R), targets and two kinds of weights (R, 4 * ``num_classes``). R is
    declared as 1.
    """

    type = "Python rpn.proposal_target_layer.ProposalTargetLayer"
    role = Role.SAMPLE
    bottoms = (2, 2)
    tops = (5, 5)

    @classmethod
    def sampled_shapes(cls, proto: Message) -> Sequence[Shape]:
        classes = python_params(proto).get("num_classes")
        if not isinstance(classes, int) or classes <= 0:
            raise net_error(
                proto, f"num_classes {classes!r} is not a number", "python_param.param_str"
            )
        return [(1, 5), (1,), *[(1, 4 * classes)] * 3]
