"""The axis of layers that also know it by an older name."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers._base import net_error


def axis_or_legacy_dim(proto: Message, param: str, legacy: str) -> tuple[int, str]:
    """The axis and the full name of the field that gives it: ``axis`` or the old ``legacy``."""
    message = getattr(proto, param)
    if not message.HasField(legacy):
        return message.axis, f"{param}.axis"
    if message.HasField("axis"):
        raise net_error(proto, f"both axis and {legacy} are given; keep only axis", param)
    return getattr(message, legacy), f"{param}.{legacy}"
