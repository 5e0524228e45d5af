"""BatchNorm layers that declare their three learned blobs, as old nets had to."""

from __future__ import annotations

from caffe2torch.io.schema import Message


def upgrade_batch_norm(net: Message) -> None:
    """Set ``lr_mult`` and ``decay_mult`` of such layers to 0, in place.

    Old nets could write other values there; Caffe now refuses those, as the blobs are
    running statistics that no solver may change.
    """
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = 0
                spec.decay_mult = 0
