"""The check of the layers that Caffe does not let write over their own bottom."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers._base import net_error


def refuse_in_place(proto: Message) -> None:
    """Raise NetError if a top of the layer has the name of its first bottom."""
    if proto.bottom and proto.bottom[0] in proto.top:
        raise net_error(
            proto,
            f"it does not allow in-place computation: {proto.bottom[0]!r} is both its bottom "
            "and its top; give the top another name",
        )
