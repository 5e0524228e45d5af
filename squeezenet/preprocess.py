"""From an image to the net's input, in training (at random) and in test."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, Union

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import NetError
from caffe2torch.images import Decoder, ImageError, Pixels, decode_image, read_image
from caffe2torch.io.blob import read_mean
from caffe2torch.preprocessing import (
    PROTOCOLS,
    Preprocessing,
    Random,
    Window,
    mean_at,
    normalise,
    to_input,
)
from squeezenet.jpeg import Jpeg, plain_jpeg

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray

RESIZE = 256
CROP = 227
MEAN = (104.0, 117.0, 123.0)
"""Subtracted from blue, green and red."""


PREPROCESSING = Preprocessing(crop_size=CROP, mean=MEAN, resize=RESIZE)
"""What the published weights expect."""


def complete(record: Preprocessing | None, path: Path) -> Preprocessing:
    """How the input of the SqueezeNet in ``path`` is made, of which ``record`` says a part.

    The rest, or all without a record, is as for the published weights.
    """
    if record is None:
        return PREPROCESSING
    mean = record.mean or (0.0,)
    if record.mean_file:
        warnings.warn(
            f"{path} was trained with the mean image {record.mean_file}, which is not part "
            f"of it: its preprocessing subtracts {MEAN} instead",
            stacklevel=5,
        )
        mean = MEAN
    crop = record.crop_size or CROP
    return replace(
        record,
        crop_size=crop,
        resize=record.resize or round(crop * RESIZE / CROP),
        mean=mean * 3 if len(mean) == 1 else mean,
        mean_file=None,
    )


class PILImage(Protocol):
    """The part of a PIL.Image.Image that is used; PIL itself is not needed."""

    mode: str

    def convert(self, mode: str) -> Any:
        """The image in another mode."""


Image: TypeAlias = Union[str, "os.PathLike[str]", npt.NDArray[np.uint8], PILImage]


def preprocess(
    image: Image, *, channel_order: str = "BGR", preprocessing: Preprocessing = PREPROCESSING
) -> npt.NDArray[np.float32]:
    """The net's input for one image: float32 of shape (3, 227, 227), not yet a batch.

    Args:
        image: a path, a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a PIL
            image. Grey becomes three equal channels; alpha is dropped.
        channel_order: of an array's colours, "BGR" (as cv2.imread returns them) or "RGB".
            Files and PIL images know theirs.
        preprocessing: the sizes, mean and scale; those of the published weights by default.

    Raises:
        ImageError: the file cannot be read or decoded, or the array has another form.
    """
    side = preprocessing.crop_size or CROP
    return to_input(read_bgr(image, channel_order=channel_order), preprocessing, (side, side))


def read_bgr(image: Image, *, channel_order: str = "BGR") -> npt.NDArray[np.uint8]:
    """Any image that ``preprocess`` takes, as a uint8 array (H, W, 3), blue first."""
    if isinstance(image, (str, os.PathLike)):
        return read_image(image)
    if isinstance(image, np.ndarray):
        return _array_to_bgr(image, channel_order)
    if hasattr(image, "convert") and hasattr(image, "mode"):
        return _pil_to_bgr(image)
    raise ImageError(
        f"an image is a path, a uint8 array or a PIL image, not a {type(image).__name__}"
    )


def _array_to_bgr(array: npt.NDArray[Any], channel_order: str) -> npt.NDArray[np.uint8]:
    if channel_order not in ("BGR", "RGB"):
        raise ImageError(f"channel_order is {channel_order!r}: it must be 'BGR' or 'RGB'")
    if array.dtype != np.uint8:
        raise ImageError(f"an image array must be uint8 (0 to 255), not {array.dtype}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise ImageError(
            f"an image array must have the shape (H, W) or (H, W, 1, 3 or 4), not {array.shape}"
        )
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    colours = array[:, :, :3] if channel_order == "BGR" else array[:, :, 2::-1]
    return np.ascontiguousarray(colours)


def _pil_to_bgr(image: PILImage) -> npt.NDArray[np.uint8]:
    if image.mode[0] in "IF":
        raise ImageError(
            f"a PIL image of mode {image.mode!r} has more than 8 bits a channel: convert it first"
        )
    return _array_to_bgr(np.asarray(image.convert("RGB")), "RGB")


LUMA = np.array([0.114, 0.587, 0.299], np.float32)
"""Weights of blue, green and red in the grey value (ITU-R BT.601)."""


class Cut(NamedTuple):
    """The pixels (crop, crop, 3), blue first, that the net is to see, and what is to be done yet.

    ``window`` is where they lie in their image; of a Jpeg they are to be decoded first.
    ``mirrored``: they are to be mirrored, mean and all. Pixels are float32 where colours were
    changed.
    """

    pixels: Pixels | FloatArray | Jpeg
    window: Window
    mirrored: bool


@dataclass(frozen=True)
class Transform:
    """How an image becomes a float32 array (3, crop, crop).

    In test (no random numbers) that is what ``preprocessing`` says; ``mean_image`` (3, resize,
    resize), by default that of the file that it names, takes the place of its mean. In
    training its protocol takes the cut at random, of ``area`` of the image if it is
    "random-resized-crop". Then, in training alone: rotation by
    up to ``rotation`` degrees either way, the mirror image in half of the cases if the
    preprocessing says ``mirror``, and brightness, contrast and saturation scaled by a factor
    within 1 +- ``jitter``.

    ``decode`` is "exact", as Caffe does it, or "reduced": JPEGs may be decoded at a half, a quarter
    or an eighth of their size where the resizing still makes them smaller. The decoder's means of
    pixels then take the place of a part of the resizing, which differs from Caffe's in most pixels.
    With "torchvision", ``squeezenet.decode`` decodes plain JPEGs where the model computes; NetError
    where images are to be rotated or changed in their colours, which is done before.
    """

    preprocessing: Preprocessing = PREPROCESSING
    mean_image: FloatArray | None = None
    rotation: float = 0.0
    jitter: float = 0.0
    area: tuple[float, float] = (0.08, 1.0)
    decode: str = "exact"

    def __post_init__(self) -> None:
        if self.on_device and (self.rotation or self.jitter):
            raise NetError(
                "--decode torchvision leaves no pixels for --rotation and --jitter, which the "
                "workers do: set both to 0, or take --decode exact"
            )
        if self.mean_image is None and self.preprocessing.mean_file is not None:
            object.__setattr__(self, "mean_image", read_mean(self.preprocessing.mean_file))

    @property
    def crop(self) -> int:
        """The side of the net's input."""
        return self.preprocessing.crop_size or CROP

    @property
    def on_device(self) -> bool:
        """Whether JPEGs are decoded where the model computes."""
        return self.decode == "torchvision"

    @property
    def decoder(self) -> Decoder:
        """What makes an image of a file's bytes."""
        if self.on_device:
            return plain_jpeg
        return partial(decode_image, least=self.least)

    @property
    def least(self) -> int:
        """The shorter side of an image that is not enlarged; 0 if it is to be decoded whole.

        For ``random-resized-crop`` it is that of an image whose smallest part is not.
        """
        if self.decode != "reduced":
            return 0
        if self.preprocessing.protocol == "random-resized-crop":
            return math.ceil(self.crop / math.sqrt(self.area[0] * 3 / 4))
        return max(self.preprocessing.size_before((self.crop, self.crop)))

    def __call__(self, bgr: Pixels, rng: Random | None) -> FloatArray:
        """The net's input: random if ``rng`` is given, as in test if not."""
        pixels, window, mirrored = self.cut(bgr, rng)
        assert not isinstance(pixels, Jpeg)  # As it was none.
        mean = mean_at(self.preprocessing, self.mean_image, *window.place, (self.crop, self.crop))
        if mirrored:
            mean, pixels = mean[:, ::-1], pixels[:, ::-1]
        return normalise(pixels.astype(np.float32), self.preprocessing, mean)

    def cut(self, image: Pixels | Jpeg, rng: Random | None) -> Cut:
        """The part of the work that comes before the mean: bytes, where no colours change.

        ``squeezenet.feed`` does the rest for a whole batch, where the model computes. A Jpeg stays
        as it is.
        """
        made, size = self.preprocessing, (self.crop, self.crop)
        protocol, before = PROTOCOLS[made.protocol], made.size_before(size)
        height, width = image.shape[:2]
        if rng is None:
            window = protocol.in_middle((height, width), before, size)
        else:
            window = protocol.at_random((height, width), before, size, rng, self.area)
        self._check_mean(*window.place)
        if isinstance(image, Jpeg):  # Which is neither rotated nor changed in its colours.
            return Cut(image, window, self._mirrors(rng))
        pixels = window.take(image, size)
        if rng is not None and self.rotation:
            pixels = _rotate(pixels, rng.uniform(-self.rotation, self.rotation))
        mirrored = self._mirrors(rng)
        if rng is None or not self.jitter:
            return Cut(pixels, window, mirrored)
        # Changed as they will be seen: the order of the pixels counts in the last bits.
        order = np.s_[:, :: -1 if mirrored else 1]
        factors = rng.uniform(1 - self.jitter, 1 + self.jitter, 3)
        changed = _jitter_colours(pixels.astype(np.float32)[order], factors)
        return Cut(changed[order], window, mirrored)

    def _mirrors(self, rng: Random | None) -> bool:
        return rng is not None and self.preprocessing.mirror and rng.random() < 0.5

    def _check_mean(self, top: int, left: int) -> None:
        """Refuse a cut that the mean image does not have."""
        if self.mean_image is None:
            return
        height, width = self.mean_image.shape[-2:]
        if top + self.crop > height or left + self.crop > width:
            raise NetError(
                f"the mean image is {width} x {height}, and a cut of {self.crop} begins at column "
                f"{left}, row {top} of an image: resize images to the size of the mean image "
                "(--resize) without keeping their aspect ratio (--protocol caffe, --val-protocol "
                "caffe), or give the mean as three numbers"
            )


def _rotate(image: Pixels, degrees: float) -> Pixels:
    import cv2

    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    rotated: Pixels = cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return rotated


def _jitter_colours(image: FloatArray, factors: npt.NDArray[np.float64]) -> FloatArray:
    brightness, contrast, saturation = (np.float32(factor) for factor in factors)
    image = np.clip(image * brightness, 0, 255)
    grey = (image @ LUMA).mean()
    image = np.clip(grey + contrast * (image - grey), 0, 255)
    greys = (image @ LUMA)[:, :, None]
    coloured: FloatArray = np.clip(greys + saturation * (image - greys), 0, 255)
    return coloured
