"""SqueezeNet for ``torch.hub.load``: ``torch.hub.list`` and ``torch.hub.help`` describe it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squeezenet import SqueezeNet

dependencies = ["torch", "numpy", "google.protobuf", "filelock"]


def squeezenet1_0(
    pretrained: bool = False,
    num_classes: int | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> SqueezeNet:
    """SqueezeNet v1.0 as Caffe computes it: BGR images (N, 3, 227, 227) to logits.

    Args:
        pretrained: load the published weights (downloaded once, verified). False: new weights.
        num_classes: 1000 by default. Another number than the weights have gets a new conv10.
        weights: load this file, a .caffemodel or a converted one, instead.
    """
    return _squeezenet("1.0", pretrained, num_classes, weights)


def squeezenet1_1(
    pretrained: bool = False,
    num_classes: int | None = None,
    weights: str | os.PathLike[str] | None = None,
) -> SqueezeNet:
    """SqueezeNet v1.1 as Caffe computes it: BGR images (N, 3, 227, 227) to logits.

    Args:
        pretrained: load the published weights (downloaded once, verified). False: new weights.
        num_classes: 1000 by default. Another number than the weights have gets a new conv10.
        weights: load this file, a .caffemodel or a converted one, instead.
    """
    return _squeezenet("1.1", pretrained, num_classes, weights)


def _squeezenet(
    version: str,
    pretrained: bool,
    num_classes: int | None,
    weights: str | os.PathLike[str] | None,
) -> SqueezeNet:
    from squeezenet import SqueezeNet, load_pretrained

    if pretrained or weights is not None:
        return load_pretrained(version, weights, num_classes=num_classes)
    return SqueezeNet(version, num_classes=1000 if num_classes is None else num_classes)
