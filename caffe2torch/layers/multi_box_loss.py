"""MultiBoxLoss: the loss that trains an SSD net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, Role
from caffe2torch.layers._builders import TorchBuilder


@register_layer()
class MultiBoxLoss(Layer):
    """Matching and loss of SSD (SSD's Caffe: multibox_loss_layer.cpp), for training alone.

    It has no conversion. In a net whose ground truth comes from a data layer it is dropped,
    like all losses.
    """

    type = "MultiBoxLoss"
    role = Role.LOSS
    converts = False
    bottoms = (4, 4)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [()]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        raise self.unsupported(
            "it serves to train SSD and has no conversion; convert the deploy net, which"
            " ends in DetectionOutput"
        )
