"""WindowData: windows cut out of images, for R-CNN (Caffe: window_data_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffe2torch.data.source import (
    ArraySource,
    Reading,
    batch_size_of,
    check_tops,
    register_source,
)
from caffe2torch.data.transformer import Mean, check_fields
from caffe2torch.errors import ReadError
from caffe2torch.graph import FloatArray
from caffe2torch.images import ImageError, Pixels, read_image
from caffe2torch.io.files import text_of
from caffe2torch.io.schema import Message
from caffe2torch.layers import net_error


class Window(NamedTuple):
    """A box of an image, its corners included, and the class of what is in it."""

    image: int
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


class Placed(NamedTuple):
    """Which pixels are cut out, and the size and the place that they get in the top."""

    x1: int
    y1: int
    x2: int
    y2: int
    width: int
    height: int
    left: int
    top: int


@register_source("WindowData")
class WindowData(ArraySource):
    """Top 0: windows (N, 3, K, K) for ``crop_size`` K, top 1: their classes (N).

    ``source`` holds blocks ``# index path channels height width count`` and ``count`` boxes ``class
    overlap x1 y1 x2 y2``. A box is foreground if its overlap is at least ``fg_threshold`` (0.5),
    else background, of class 0, if it is below ``bg_threshold`` (0.5). Each batch draws
    N * ``fg_fraction`` (0.25, rounded down) foreground windows after its background ones.

    A window is resized to K x K. ``context_pad`` P widens it so that P pixels of the K around it
    are context, and ``crop_mode: "square"`` to a square; what lies outside of the image is 0. Then
    come ``mirror``, in every phase and by chance, and (pixel - mean) * scale, where the mean
    image is cut in its middle. ``scale`` is that of ``window_data_param``, not of the
    ``transform_param``: a quirk of Caffe's.

    Errors: NetError for parameters that Caffe refuses, ReadError for a line of the file that is not
    as above, ImageError for an image that cannot be read or a box that is not inside of it.
    """

    no_effect = (
        "transform_param.scale",
        "window_data_param.mean_file",
        "window_data_param.crop_size",
        "window_data_param.mirror",
    )

    workers = 2  # Each window is cut out of an image that is decoded for it.

    def __init__(self, proto: Message, reading: Reading) -> None:
        check_tops(proto, 2, 2)
        check_fields(proto)
        self.proto, self.reading, self.param = proto, reading, proto.window_data_param
        self.crop, self.mirror = proto.transform_param.crop_size, proto.transform_param.mirror
        if not self.crop:
            raise net_error(proto, "must be positive", "transform_param.crop_size")
        if self.param.context_pad * 2 >= self.crop:
            raise net_error(
                proto,
                f"{self.param.context_pad} pixels on each side leave nothing of a crop of "
                f"{self.crop}; give less",
                "window_data_param.context_pad",
            )
        batch_size = batch_size_of(proto, "window_data_param")
        self.mean = Mean.from_proto(proto, reading)
        self.mean.check_values(proto, 3)
        if self.mean.image is not None and (
            self.mean.image.shape[0] != 3 or min(self.mean.image.shape[1:]) < self.crop
        ):
            raise net_error(
                proto,
                f"the mean image is {self.mean.image.shape} (channels, height, width), and must "
                f"have 3 channels and {self.crop} pixels a side or more",
                "transform_param.mean_file",
            )
        self._read_windows()
        if not 0 <= self.param.fg_fraction <= 1:
            raise net_error(
                proto, "is a part of a batch, from 0 to 1", "window_data_param.fg_fraction"
            )
        foreground = int(np.float32(batch_size) * np.float32(self.param.fg_fraction))
        self.counts = (batch_size - foreground, foreground)
        for windows, kind in zip(self.windows, ("back", "fore"), strict=True):
            if not windows:  # Even where a batch would have none of them.
                raise net_error(
                    proto,
                    f"{self.path} has no {kind}ground window; correct the thresholds",
                    "window_data_param",
                )
        self.shapes = ((batch_size, 3, self.crop, self.crop), (batch_size,))

    def arrays(self, index: int) -> tuple[FloatArray, ...]:
        """Windows drawn for batch ``index``, the background first."""
        images = np.zeros(self.shapes[0], np.float32)
        labels = np.zeros(self.shapes[1], np.float32)
        random = self.reading.random(self.proto.name, index, self.reading.rank)
        item = 0
        for windows, count in zip(self.windows, self.counts, strict=True):
            for _ in range(count):
                window = windows[random.integers(len(windows))]
                mirrored = self.mirror and random.integers(2) == 1
                self._cut(window, bool(mirrored), images[item])
                labels[item] = window.label
                item += 1
        return images, labels

    def _cut(self, window: Window, mirrored: bool, out: FloatArray) -> None:
        """Write a window to ``out`` (3, K, K), which is 0."""
        import cv2

        path, where = self.images[window.image]
        try:
            image = read_image(path)
        except ImageError as error:
            raise ImageError(f"{where}: {error}") from None
        place = self._place(window, image, mirrored)
        if not (0 <= place.x1 <= place.x2 < image.shape[1]) or not (
            0 <= place.y1 <= place.y2 < image.shape[0]
        ):
            raise ImageError(
                f"{where}: the box {window[2:]} is not inside of the image {path}, which is "
                f"{image.shape[1]} x {image.shape[0]}"
            )
        if place.width < 1 or place.height < 1:
            raise ImageError(
                f"{where}: of the box {window[2:]} no pixel is left at the size of the crop"
            )
        pixels = cv2.resize(
            image[place.y1 : place.y2 + 1, place.x1 : place.x2 + 1],
            (place.width, place.height),
            interpolation=cv2.INTER_LINEAR,
        )
        if mirrored:
            pixels = pixels[:, ::-1]
        numbers = pixels.transpose(2, 0, 1).astype(np.float32)
        rows = slice(place.top, place.top + place.height)
        columns = slice(place.left, place.left + place.width)
        if self.mean.image is not None:
            # Caffe takes the offset of the columns for the rows, too.
            middle = (self.mean.image.shape[2] - self.crop) // 2
            mean = self.mean.image[:, middle:, middle:]
            if mean.shape[1] < rows.stop:
                raise net_error(
                    self.proto,
                    f"the mean image is {self.mean.image.shape}: it must be square",
                    "transform_param.mean_file",
                )
            numbers -= mean[:, rows, columns]
        elif self.mean.values.size:
            numbers -= self.mean.values.reshape(-1, 1, 1)
        out[:, rows, columns] = numbers * np.float32(self.param.scale)

    def _place(self, window: Window, image: Pixels, mirrored: bool) -> Placed:
        """Where a window is cut and goes; in float32, as Caffe computes it."""
        x1, y1, x2, y2 = window[2:]
        crop, pad, square = self.crop, self.param.context_pad, self.param.crop_mode == "square"
        if not pad and not square:
            return Placed(x1, y1, x2, y2, crop, crop, 0, 0)
        f = np.float32
        context = f(crop) / f(crop - 2 * pad)
        half_height, half_width = f(f(y2 - y1 + 1) / 2.0), f(f(x2 - x1 + 1) / 2.0)
        centre_x, centre_y = f(x1) + half_width, f(y1) + half_height
        if square:
            half_width = half_height = max(half_height, half_width)
        x1, x2 = (_round(centre_x + sign * half_width * context) for sign in (f(-1), f(1)))
        y1, y2 = (_round(centre_y + sign * half_height * context) for sign in (f(-1), f(1)))
        scale_x, scale_y = f(crop) / f(x2 - x1 + 1), f(crop) / f(y2 - y1 + 1)
        beyond = (max(0, -x1), max(0, -y1), max(0, x2 - image.shape[1] + 1))
        x1, y1, x2 = x1 + beyond[0], y1 + beyond[1], x2 - beyond[2]
        y2 -= max(0, y2 - image.shape[0] + 1)
        left = _round(f(beyond[2] if mirrored else beyond[0]) * scale_x)
        top = _round(f(beyond[1]) * scale_y)
        width = min(_round(f(x2 - x1 + 1) * scale_x), crop - left)
        height = min(_round(f(y2 - y1 + 1) * scale_y), crop - top)
        return Placed(x1, y1, x2, y2, width, height, left, top)

    def _read_windows(self) -> None:
        """Fill ``images``, paths and what names them, and ``windows``, of back- and foreground."""
        field = "window_data_param.source"
        self.path = self.reading.find(self.param.source)
        try:
            text = text_of(self.path.read_bytes(), f"the window file {self.path}")
        except (OSError, ValueError) as error:
            raise self.reading.cannot_read(self.proto, field, "the window file", error) from None
        words = _Words(text, self.path)
        self.images: list[tuple[Path, str]] = []
        self.windows: tuple[list[Window], list[Window]] = ([], [])
        while words.more():
            self._read_image(words)
        if not self.images:
            raise net_error(self.proto, f"the window file {self.path} is empty", field)
        if self.channels != 3:
            raise ReadError(
                f"{self.path}: the last image has {self.channels} channels; the blob has as many, "
                "and images are read with 3; correct it"
            )
        for windows in self.windows:
            for window in windows:
                if not 0 <= window.image < len(self.images):
                    raise ReadError(
                        f"{self.path}: there is no image {window.image} among {len(self.images)}; "
                        "images are numbered from 0 in their order"
                    )

    def _read_image(self, words: _Words) -> None:
        """One block of the file."""
        param = self.param
        words.expect("#")
        index = words.integer("the index of an image")
        where = words.where()
        name = param.root_folder + words.next("the path of an image")
        self.images.append((self.reading.find(name), where))
        self.channels = words.integer("the number of channels")
        words.integer("the height")
        words.integer("the width")
        for _ in range(words.integer("the number of windows")):
            where = words.where()
            label, overlap = words.integer("a class"), np.float32(words.number("an overlap"))
            box = [words.integer("a corner of a box") for _ in range(4)]
            if box[0] > box[2] or box[1] > box[3]:
                raise ReadError(
                    f"{where}: the corners {box} of the box are not x1 y1 x2 y2 in order"
                )
            if overlap >= np.float32(param.fg_threshold):
                if label < 1:
                    raise ReadError(
                        f"{where}: the class of a foreground window is {label}; 0 is the background"
                    )
                self.windows[1].append(Window(index, label, *box))
            elif overlap < np.float32(param.bg_threshold):
                self.windows[0].append(Window(index, 0, *box))


class _Words:
    """The words of a text one by one, with their lines for errors."""

    def __init__(self, text: str, path: Path) -> None:
        self.path = path
        self._words = self._split(text)
        self._ahead = next(self._words, None)

    @staticmethod
    def _split(text: str) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(text.split("\n"), 1):
            for word in line.split():
                yield number, word

    def more(self) -> bool:
        """Whether there is another word."""
        return self._ahead is not None

    def where(self) -> str:
        """File and line of the next word."""
        return f"{self.path}:{self._ahead[0] if self._ahead else 'end'}"

    def next(self, what: str) -> str:
        """The next word, which should be ``what``."""
        if self._ahead is None:
            raise ReadError(f"{self.path}: the file ends before {what}; it was cut short")
        _, word = self._ahead
        self._ahead = next(self._words, None)
        return word

    def expect(self, mark: str) -> None:
        """Take a word that must be ``mark``."""
        where, word = self.where(), self.next(repr(mark))
        if word != mark:
            raise ReadError(f"{where}: expected {mark!r}, found {word[:100]!r}")

    def number(self, what: str) -> float:
        """The next word as a number."""
        where, word = self.where(), self.next(what)
        try:
            return float(word)
        except ValueError:
            raise ReadError(f"{where}: expected {what}, found {word[:100]!r}") from None

    def integer(self, what: str) -> int:
        """The next word as an integer."""
        where = self.where()
        value = self.number(what)
        if not value.is_integer():
            raise ReadError(f"{where}: expected {what}, an integer, found {value:g}")
        return int(value)


def _round(value: np.float32) -> int:
    """C's round: halves go away from zero."""
    return int(math.copysign(math.floor(abs(float(value)) + 0.5), value))
