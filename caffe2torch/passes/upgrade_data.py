"""Transformation fields of V1 data layers, moved to ``transform_param``."""

from __future__ import annotations

from caffe2torch.io.schema import Message, enum_name

DATA_PARAMETERS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
"""V1 types that had these fields in a parameter of their own."""

MOVED = ("scale", "mean_file", "crop_size", "mirror")


def upgrade_data(net: Message) -> None:
    """Move the transformation fields of the V1 layers of ``net``, in place.

    Fields of V2 layers stay, as in Caffe, which ignores them there.
    """
    for v1 in net.layers:
        parameter = DATA_PARAMETERS.get(enum_name(v1, "type"))
        if parameter is not None and v1.HasField(parameter):
            _move(getattr(v1, parameter), v1)


def _move(source: Message, v1: Message) -> None:
    for field in MOVED:
        if source.HasField(field):
            setattr(v1.transform_param, field, getattr(source, field))
            source.ClearField(field)
