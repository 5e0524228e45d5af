"""How a data layer's images become numbers (Caffe: data_transformer.cpp)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from caffe2torch.cuts import Cuts, CutsToInput
from caffe2torch.data.slots import Slots
from caffe2torch.data.source import Raw, Reading, Source, stack
from caffe2torch.graph import Array, FloatArray, Shape
from caffe2torch.io.blob import read_mean
from caffe2torch.io.schema import Message
from caffe2torch.layers import net_error, unsupported

READ = frozenset(
    ("scale", "mirror", "crop_size", "mean_file", "mean_value", "force_color", "force_gray")
)
"""Fields of a TransformationParameter that BVLC Caffe has; forks add more."""


@dataclass(frozen=True)
class Mean:
    """What is subtracted: an image (C, H, W), one number a channel, one for all, or nothing."""

    image: FloatArray | None
    values: FloatArray

    @classmethod
    def from_proto(cls, proto: Message, reading: Reading) -> Mean:
        """``mean_file`` or ``mean_value`` of a layer. Raises NetError if there are both."""
        transform = proto.transform_param
        values = np.array(transform.mean_value, np.float32)
        if not transform.HasField("mean_file"):
            return cls(None, values)
        if values.size:
            raise net_error(
                proto,
                "both mean_file and mean_value are given; keep one",
                "transform_param.mean_value",
            )
        path = reading.find(transform.mean_file)
        if not path.is_file():
            raise net_error(
                proto,
                f"there is no file {path}{reading.tried(transform.mean_file)}; correct the path, "
                "or give mean_value",
                "transform_param.mean_file",
            )
        return cls(read_mean(path), values)

    def check_values(self, proto: Message, channels: int) -> None:
        """Raise NetError unless there is one ``mean_value``, or one for each channel."""
        if self.values.size not in (0, 1, channels):
            raise net_error(
                proto,
                f"it is given {self.values.size} times for {channels} channels; give one for all "
                "or one for each",
                "transform_param.mean_value",
            )


@dataclass(frozen=True)
class Transformer:
    """(pixel - mean) * scale of a cut out of the image, in float32, sometimes mirrored.

    - ``crop_size`` K cuts K x K out: anywhere in TRAIN, in TEST at rows (height - K) / 2 and
      columns (width - K) / 2, rounded down. 0 (the default) takes the whole image.
    - ``mirror`` (false) exchanges left and right of every other image by chance, in TEST too.
    - ``mean_file`` is a mean image of the size before the cut, and cut at the same place;
      ``mean_value`` is one number, or one a channel.
    - ``scale`` (1) multiplies what is left.

    Errors: NetError for a crop larger than an image, a mean image of another size, another number
    of mean values, or mean_file and mean_value at once; UnsupportedLayerError for what forks add.
    """

    proto: Message
    crop: int
    mirror: bool
    scale: np.float32
    mean: Mean
    train: bool

    @classmethod
    def from_proto(cls, proto: Message, reading: Reading) -> Transformer:
        """The layer's ``transform_param`` in the phase of the run."""
        check_fields(proto)
        transform = proto.transform_param
        return cls(
            proto=proto,
            crop=transform.crop_size,
            mirror=transform.mirror,
            scale=np.float32(transform.scale),
            mean=Mean.from_proto(proto, reading),
            train=reading.train,
        )

    @property
    def draws(self) -> bool:
        """Whether random numbers are needed."""
        return self.mirror or (self.train and self.crop > 0)

    def cut(
        self, image: Array, where: str, random: np.random.Generator | None
    ) -> tuple[Array, Place]:
        """The cut of an ``image`` (C, H, W), which ``where`` names in errors, and its place."""
        height, width = image.shape[1:]
        self._check(image.shape, where)
        mirrored = self.mirror and random is not None and random.integers(2) == 1
        if not self.crop:
            return image, Place(0, 0, int(mirrored))
        spare = height - self.crop, width - self.crop
        if self.train:
            assert random is not None
            top, left = (int(random.integers(side + 1)) for side in spare)
        else:
            top, left = (side // 2 for side in spare)
        cut = image[:, top : top + self.crop, left : left + self.crop]
        return cut, Place(top, left, int(mirrored))

    def to_input(self, device: torch.device) -> CutsToInput:
        """What makes numbers of cuts on ``device``."""
        mean = self.mean.image
        if mean is None and self.mean.values.size:
            mean = self.mean.values.reshape(-1, 1, 1)
        return CutsToInput(device, mean, float(self.scale))

    def _check(self, shape: Shape, where: str) -> None:
        channels, height, width = shape
        if min(height, width) < self.crop:
            raise net_error(
                self.proto,
                f"{self.crop} pixels cannot be cut out of {where}, which is {width} x {height}; "
                "make the images larger, or the crop smaller",
                "transform_param.crop_size",
            )
        if self.mean.image is not None and self.mean.image.shape != shape:
            raise net_error(
                self.proto,
                f"the mean image is {self.mean.image.shape} (channels, height, width), and {where} "
                f"is {shape}: they must be equal. Compute the mean of these images, or give "
                "mean_value",
                "transform_param.mean_file",
            )
        self.mean.check_values(self.proto, channels)


def check_fields(proto: Message) -> None:
    """Raise UnsupportedLayerError for a field of ``transform_param`` that only forks have."""
    for field, _ in proto.transform_param.ListFields():
        if field.name not in READ:
            raise unsupported(
                proto,
                "is of a fork of Caffe, and images are not changed by it here; remove it if "
                "training may do without",
                f"transform_param.{field.name}",
            )


class Place(NamedTuple):
    """Where in its image a cut begins, and whether (1) or not (0) it is to be mirrored."""

    top: int
    left: int
    mirrored: int


class Item(NamedTuple):
    """An image (C, H, W), or a cut of it, its label, and what names it in errors."""

    image: Array
    label: int
    where: str


class ImageSource(Source):
    """A source of labelled images: top 0 is (N, C, H, W), top 1, if there is one, labels (N).

    Subclasses give the items of the stream. The first item gives the shapes.
    """

    workers = 2  # One core decodes fewer images than a GPU computes, and a net on a CPU waits.

    def prepare(self, proto: Message, reading: Reading, batch_size: int) -> None:
        """Set the stream up; ``read`` must work by then."""
        self.proto, self.reading, self.batch_size = proto, reading, batch_size
        self.transform = Transformer.from_proto(proto, reading)
        first = self._cut(0)[0].image
        self.dtype, self.channels_last = first.dtype, first.strides[0] < first.strides[2]
        self.shapes = ((batch_size, *first.shape), (batch_size,))[: len(proto.top)]

    @abstractmethod
    def read(self, position: int) -> Item:
        """The item at a position of the stream, which has no end."""

    def raw(self, index: int) -> Raw:
        """Cuts and labels of batch ``index``. Raises NetError if the images differ in shape."""
        positions = self.reading.positions(index, self.batch_size)
        cuts = [self._cut(position) for position in positions]
        pixels = stack(self.proto, [(item.image, item.where) for item, _ in cuts])
        images = Cuts(torch.from_numpy(pixels), torch.tensor([place for _, place in cuts]))
        labels = torch.tensor([item.label for item, _ in cuts], dtype=torch.float32)
        return (images, labels)[: len(self.proto.top)]

    def to_input(self, device: torch.device) -> CutsToInput:
        """What makes the images on ``device``."""
        return self.transform.to_input(device)

    def slots(self, count: int) -> Slots:
        """Memory for batches of images like the first."""
        return Slots(count, self.shapes[0], self.dtype, channels_last=self.channels_last)

    def _cut(self, position: int) -> tuple[Item, Place]:
        item = self.read(position)
        random = self.reading.random(self.proto.name, position) if self.transform.draws else None
        image, place = self.transform.cut(item.image, item.where, random)
        return item._replace(image=image), place
