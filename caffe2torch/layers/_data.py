"""Data layers: where a training net's input comes from, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from caffe2torch.io.parameters import TEXT_ONLY, Parameters
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers._base import Layer, Role, net_error
from caffe2torch.preprocessing import Preprocessing


@dataclass(frozen=True)
class DataLayer(Layer):
    """Base of layers that read a data set (Caffe: data_transformer.cpp).

    ``crop`` is the size of the images, height and width mostly, and ``channels`` their number of
    channels, None where only the data set knows.
    """

    role = Role.DATA
    bottoms: ClassVar[tuple[int, int | None]] = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (1, 2)
    parameters = Parameters(
        "transform_param",
        f"optional uint32 crop_height = {TEXT_ONLY}; optional uint32 crop_width = {TEXT_ONLY + 1};",
    )

    parameter: ClassVar[str]
    """The LayerParameter field of the type's own parameters."""

    batch_size: int
    crop: tuple[int, ...] | None
    channels: int | None
    preprocessing: Preprocessing | None

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(
            name=proto.name,
            batch_size=getattr(proto, cls.parameter).batch_size,
            crop=cls.crop_of(proto),
            channels=cls.channels_of(proto),
            preprocessing=read_transform_param(proto),
        )

    @classmethod
    def crop_of(cls, proto: Message) -> tuple[int, ...] | None:
        """Height and width of the first top: the crop, or else the size resized to (SSD).

        Cysu's fork calls the sides of the crop ``crop_height`` and ``crop_width``.
        """
        transform = proto.transform_param
        if transform.crop_size:
            return transform.crop_size, transform.crop_size
        if transform.crop_h and transform.crop_w:
            return transform.crop_h, transform.crop_w
        assert cls.parameters is not None
        own = cls.parameters.of(proto)
        if own.crop_height and own.crop_width:
            return own.crop_height, own.crop_width
        resize = transform.resize_param
        fixed = enum_name(resize, "resize_mode") != "FIT_SMALL_SIZE"
        return (resize.height, resize.width) if fixed and resize.height and resize.width else None

    @classmethod
    def channels_of(cls, proto: Message) -> int | None:
        """Channels of the first top."""
        return 1 if proto.transform_param.force_gray else None


def read_transform_param(proto: Message) -> Preprocessing:
    """What a layer's transform_param says of how its images become numbers."""
    transform = proto.transform_param
    if transform.mean_file and len(transform.mean_value):
        raise net_error(
            proto, "both mean_file and mean_value are given; keep one", "transform_param.mean_value"
        )
    return Preprocessing(
        crop_size=transform.crop_size or None,
        mean=tuple(transform.mean_value),
        mean_file=transform.mean_file or None,
        scale=transform.scale,
        mirror=transform.mirror,
    )


@dataclass(frozen=True)
class UnknownSource(DataLayer):
    """A layer whose tops are fed: it has no bottoms and an unknown type, or draws at random.

    A ``transform_param`` is taken to mean what it means in Caffe's own data layers.
    """

    type = "Input"
    bottoms = (0, None)
    tops = (1, None)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        says = proto.HasField("transform_param")
        return cls(
            name=proto.name,
            batch_size=1,
            crop=cls.crop_of(proto),
            channels=cls.channels_of(proto),
            preprocessing=read_transform_param(proto) if says else None,
        )
