"""How a net's input is made from an image."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from caffe2torch.errors import NetError

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray
    from caffe2torch.images import Pixels

Random: TypeAlias = np.random.Generator
Size: TypeAlias = tuple[int, int]
"""Height and width."""
MOST_PIXELS = 2**15 - 1
"""A side, of an image that OpenCV resizes with."""
MARGIN = 256 / 227
"""Caffe's ImageNet tools resize to 256 and cut 227 out of the middle; others in proportion."""


@dataclass(frozen=True)
class Preprocessing:
    """How the net's input is made from an image of 8-bit pixels: (pixel - mean) * scale / std.

    Before that the image is resized with bicubic interpolation and its middle is cut out:

    - ``crop_size``: height and width of the cut; None where the net's input says it.
    - ``resize``: the size before the cut; None where no file says it, and then it is to the
      cut as 256 is to 227, the sizes of Caffe's ImageNet tools.
    - ``protocol``: how it is resized, one of ``PROTOCOLS``.
    - ``mean`` and ``std``: one number or one a channel, in the order of the input blob
      (Caffe: BGR); empty, they are 0 and 1. Caffe's data layers have no ``std``.
    - ``mean_file``: a mean image that the net was trained with and that is not part of the
      model file.
    - ``mirror``: whether training mirrored half of its images.
    """

    crop_size: int | None = None
    mean: tuple[float, ...] = ()
    mean_file: str | None = None
    scale: float = 1.0
    mirror: bool = False
    channel_order: str = "BGR"
    std: tuple[float, ...] = ()
    resize: int | None = None
    protocol: str = "caffe"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(
                f"there is no protocol {self.protocol!r}: choose {', '.join(PROTOCOLS)}"
            )
        if self.resize is not None and self.resize < (self.crop_size or 1):
            raise ValueError(f"nothing of {self.crop_size} can be cut out of {self.resize} pixels")

    def size_before(self, cut: Size) -> Size:
        """The height and width before the cut of the given ones."""
        margin = self.resize / self.crop_size if self.resize and self.crop_size else MARGIN
        return round(cut[0] * margin), round(cut[1] * margin)

    def to_record(self) -> dict[str, Any]:
        """The fields as a file records them; ``resize`` and ``protocol`` only if not as usual."""
        record = asdict(self)
        if self.resize in (None, round((self.crop_size or 0) * MARGIN)):
            del record["resize"]
        if self.protocol == Preprocessing.protocol:
            del record["protocol"]
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Preprocessing | None:
        """What an artefact, a checkpoint or a manifest of any version records; None for nothing.

        Raises TypeError or ValueError for something else.
        """
        if not record:
            return None
        values = dict(record)
        if "crop" in values:  # In old checkpoints, where the mean can be a path, too.
            values["crop_size"] = values.pop("crop")
        if isinstance(values.get("mean"), str):
            values["mean_file"], values["mean"] = values["mean"], ()
        if values.pop("interpolation", "cubic") != "cubic":
            raise ValueError(f"the interpolation {record['interpolation']!r} is not 'cubic'")
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise TypeError(f"unknown preprocessing {sorted(unknown)[0]!r}")
        for name in ("mean", "std"):
            values[name] = tuple(values.get(name, ()))
        for name, value in values.items():
            items = value if name in ("mean", "std") else (value,)
            if not all(isinstance(item, _KINDS.get(name, float | int)) for item in items):
                raise TypeError(f"{name} is {value!r}")
        if min(values.get("crop_size") or 0, values.get("resize") or 0) < 0:
            raise ValueError("crop_size or resize is below 0")
        if sorted(values.get("channel_order", "BGR")) != sorted("BGR"):
            raise ValueError(f"channel_order is {values['channel_order']!r}")
        return cls(**values)


_KINDS = {
    "crop_size": int | None,
    "resize": int | None,
    "mean_file": str | None,
    "mirror": bool,
    "channel_order": str,
    "protocol": str,
}
"""Of the values in a record; the others are numbers."""


class Window(NamedTuple):
    """Where the net's input lies in an image: a part is resized, and a cut taken out of that.

    ``part`` is the top, left, height and width of the part, and ``size`` what it is resized to;
    the cut begins in row and column ``start`` there. ``place`` is where it begins in an image of
    the size before the cut: there a mean image is cut, too.
    """

    part: tuple[int, int, int, int]
    size: Size
    start: tuple[int, int]
    place: tuple[int, int]

    @property
    def resizes(self) -> bool:
        """Whether the part has another size. Raises NetError for one that OpenCV does not make."""
        if self.part[2:] == self.size:
            return False
        height, width = self.size
        if max(self.size) > MOST_PIXELS:
            raise NetError(
                f"an image cannot be resized to {width} x {height}: the most is {MOST_PIXELS} "
                "pixels a side; give the net's input, or the size before the cut, less."
            )
        return True

    def take(self, image: Pixels, cut: Size) -> Pixels:
        """The pixels of the cut, of the height and width ``cut``."""
        top, left, height, width = self.part
        resized = image[top : top + height, left : left + width]
        if self.resizes:
            import cv2

            resized = cv2.resize(resized, self.size[::-1], interpolation=cv2.INTER_CUBIC)
        top, left = self.start
        return resized[top : top + cut[0], left : left + cut[1]]


class Protocol(ABC):
    """How an image is made as large as the net's input: resized, then cut.

    All of it is told by sizes, so that it is known before an image is decoded. A subclass under
    ``register_protocol`` is all that a further protocol needs.
    """

    @abstractmethod
    def resized(self, image: Size, size: Size) -> Size:
        """What a whole image is resized to, of which a cut is taken: at least ``size``."""

    def at_random(
        self, image: Size, size: Size, cut: Size, rng: Random, area: tuple[float, float]
    ) -> Window:
        """A cut for training, where an image of ``size`` is cut: anywhere in the resized one.

        ``area`` is the smallest and largest part of the image that a protocol takes which
        does not resize it whole.
        """
        whole = self.resized(image, size)
        top, left = (
            int(rng.integers(side - kept + 1)) for side, kept in zip(whole, cut, strict=True)
        )
        return Window((0, 0, *image), whole, (top, left), (top, left))

    def in_middle(self, image: Size, size: Size, cut: Size) -> Window:
        """What is cut out in test: the middle of the resized image."""
        whole = self.resized(image, size)
        top, left = ((side - kept) // 2 for side, kept in zip(whole, cut, strict=True))
        return Window((0, 0, *image), whole, (top, left), (top, left))


P = TypeVar("P", bound=type[Protocol])

PROTOCOLS: dict[str, Protocol] = {}
"""By name; the choices of the command line are these."""


def register_protocol(name: str) -> Callable[[P], P]:
    """Decorator: make a subclass of Protocol the protocol ``name``."""

    def register(cls: P) -> P:
        PROTOCOLS[name] = cls()
        return cls

    return register


@register_protocol("caffe")
class Warp(Protocol):
    """The whole image warped, its aspect ratio given up, as Caffe's data sets are made."""

    def resized(self, image: Size, size: Size) -> Size:
        """Exactly ``size``."""
        return size


@register_protocol("shorter-side")
class ShorterSide(Protocol):
    """The shorter side resized, the aspect ratio kept."""

    def resized(self, image: Size, size: Size) -> Size:
        """One side as ``size`` says, the other as much or more."""
        height, width = image
        scale = max(size[0] / height, size[1] / width)
        return max(round(height * scale), size[0]), max(round(width * scale), size[1])


@register_protocol("random-resized-crop")
class RandomResizedCrop(ShorterSide):
    """In training a random part of the image warped to the cut; in test as "shorter-side"."""

    def at_random(
        self, image: Size, size: Size, cut: Size, rng: Random, area: tuple[float, float]
    ) -> Window:
        """A part of ``area`` of the image and of an aspect ratio between 3/4 and 4/3.

        Like torchvision's: up to ten tries, then the largest allowed middle part. A mean
        image is that of the middle.
        """
        middle = (size[0] - cut[0]) // 2, (size[1] - cut[1]) // 2
        height, width = image
        for _ in range(10):
            target = height * width * rng.uniform(*area)
            ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
            h, w = round(math.sqrt(target / ratio)), round(math.sqrt(target * ratio))
            if 0 < h <= height and 0 < w <= width:
                top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
                return Window((top, left, h, w), cut, (0, 0), middle)
        h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
        return Window(((height - h) // 2, (width - w) // 2, h, w), cut, (0, 0), middle)


def to_input(
    image: Pixels, made: Preprocessing, cut: Size, mean_image: FloatArray | None = None
) -> FloatArray:
    """The net's input (channels, height, width) of an image (H, W, 3), blue first, or grey (H, W).

    ``cut`` is the height and width of the input. ``mean_image`` (channels, height, width), of
    the size before the cut, takes the place of the mean.
    """
    height, width = image.shape[:2]
    window = PROTOCOLS[made.protocol].in_middle((height, width), made.size_before(cut), cut)
    mean = mean_at(made, mean_image, *window.place, cut)
    return normalise(window.take(image, cut).reshape(*cut, -1).astype(np.float32), made, mean)


def mean_at(
    made: Preprocessing, mean_image: FloatArray | None, top: int, left: int, cut: Size
) -> FloatArray:
    """What is subtracted from a cut at a place: (height, width, channels), or 1 for each size."""
    if mean_image is None:
        return np.array(made.mean or (0.0,), np.float32).reshape(1, 1, -1)
    at_cut = mean_image[:, top : top + cut[0], left : left + cut[1]]
    return np.ascontiguousarray(at_cut.transpose(1, 2, 0))


def normalise(pixels: FloatArray, made: Preprocessing, mean: FloatArray) -> FloatArray:
    """(pixels - mean) * scale / std in the net's order of colours, channels first."""
    if made.channel_order == "RGB":
        pixels = pixels[:, :, ::-1]
    centred = pixels - mean
    if made.scale != 1.0:
        centred *= np.float32(made.scale)
    if made.std:
        centred /= np.array(made.std, np.float32)
    return np.ascontiguousarray(centred.transpose(2, 0, 1))
