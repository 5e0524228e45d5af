"""Image files: found in folders, named by lists, decoded; and the names of their classes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.io.checksum import sha256
from caffe2torch.io.files import text_of

PathLike = str | os.PathLike[str]
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3), blue first; or (height, width) of a grey image."""
Bytes: TypeAlias = npt.NDArray[np.uint8]
"""Those of an image file, one after another."""
Decoder: TypeAlias = Callable[[Bytes, str], Any]
"""Makes an image of a file's bytes and a name for errors, as ``decode_image`` does."""

SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .jp2 .jpe .jpeg .jpg .pam .pbm .pgm .png .pnm .ppm .ras .sr .tif .tiff "
    ".webp".split()
)
"""Of the formats that OpenCV decodes to 8 bits a channel. Those of floating-point pixels
(.exr, .hdr, .pfm, .pic) are none of them: 0 to 255 is not what they hold."""
LIST_NAME = "val_list.txt"
"""The list that is taken without being named, in a folder of images or beside it."""


class ImageError(ReadError):
    """An image cannot be read, or is not one that has 8-bit colours."""


@dataclass(frozen=True)
class Sample:
    """An image file, its label if one is known, and the line (``list:line``) that names it."""

    path: Path
    label: int | None = None
    line: str | None = None


class Names:
    """Byte strings in one piece of memory, which processes share after a fork.

    A million of them are two objects and not a million, so that nothing counts references in
    them, and a worker process does not copy the pages that they lie in.
    """

    def __init__(self, data: bytes | bytearray, lengths: npt.NDArray[np.integer]) -> None:
        self._data = data
        self._ends = np.cumsum(lengths, dtype=np.int64)

    @classmethod
    def gather(cls, names: Iterable[bytes]) -> Names:
        """Of an iterable, whose items need not exist at the same time."""
        data = bytearray()

        def lengths() -> Iterator[int]:
            for name in names:
                data.extend(name)
                yield len(name)

        return cls(data, np.fromiter(lengths(), np.int32))

    def __len__(self) -> int:
        return len(self._ends)

    def buffers(self) -> tuple[memoryview, memoryview]:
        """The memory that holds them: the bytes, and where each of them ends."""
        return memoryview(self._data), self._ends.data

    def __getitem__(self, index: int) -> bytes:
        start = self._ends[index - 1] if index else 0
        return bytes(self._data[start : self._ends[index]])


class ImageList(Sequence[Sample]):
    """Labelled image files as columns, 50 bytes or so an image; a Sample is made when asked for.

    ``labels`` are int32. ``names`` are paths below ``root`` in UTF-8; ``lines``, the numbers of
    the lines of ``listing`` that name them, if it is a list that does.
    """

    def __init__(
        self,
        root: Path,
        names: Names,
        labels: npt.NDArray[np.int32],
        listing: Path | None = None,
        lines: npt.NDArray[np.int32] | None = None,
    ) -> None:
        self.root, self.names, self.labels = root, names, labels
        self.listing, self.lines = listing, lines

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Tells lists apart by their names and labels."""
        return sha256((*self.names.buffers(), self.labels.data))

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        name = self.names[index].decode("utf-8", "surrogateescape")
        line = None if self.lines is None else f"{self.listing}:{self.lines[index]}"
        return Sample(self.root / name, int(self.labels[index]), line)


def read_image(path: PathLike, channels: int = 3, source: str | None = None) -> Pixels:
    """The pixels of a file: (H, W, 3), blue first, or grey (H, W) for one channel.

    Raises ImageError, which names the file by ``source`` or its path, if it cannot be read or
    decoded.
    """
    source = source or os.fspath(path)
    return decode_image(read_bytes(path, source), source, channels)


def read_bytes(path: PathLike, source: str) -> Bytes:
    """What an image file holds. Raises ImageError, which names ``source``, if it is unreadable."""
    try:
        return np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read the image {source}: {cause}") from error


def decode_image(data: Bytes, source: str, channels: int | None = 3, least: int = 0) -> Pixels:
    """The pixels of an image file's bytes; ``source`` names them in errors.

    With None for ``channels`` they are those of the file, if it has 8 bits a channel. With
    ``least``, a JPEG is decoded in colours at a half, a quarter or an eighth of its size, the
    smallest at which both sides keep so many pixels; 0: always whole.
    """
    import cv2

    kinds = {1: cv2.IMREAD_GRAYSCALE, None: cv2.IMREAD_UNCHANGED}
    flag = kinds.get(channels, cv2.IMREAD_COLOR)
    if least and channels == 3:
        reduced = {
            2: cv2.IMREAD_REDUCED_COLOR_2,
            4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8,
        }
        side = _jpeg_side(data)
        flag = next((reduced[by] for by in (8, 4, 2) if side >= by * least), flag)
    try:
        pixels: Pixels | None = cv2.imdecode(data, flag) if data.size else None
    except cv2.error:  # Of an image that is larger than OpenCV allows.
        pixels = None
    if pixels is None:
        raise ImageError(
            f"{source} is not an image that OpenCV can decode ({data.size} bytes): "
            "it is damaged or of another format; convert it to JPEG or PNG"
        )
    if pixels.dtype != np.uint8:
        raise ImageError(
            f"{source} has pixels of the type {pixels.dtype}, not 8 bits a channel: convert it"
        )
    return pixels


def _jpeg_side(data: Bytes) -> int:
    """The shorter side of a JPEG, from the header of its frame; 0 for what is none."""
    frame = next((frame for marker, frame in jpeg_segments(data) if marker in JPEG_FRAMES), b"")
    return min(int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"))


def jpeg_segments(data: Bytes) -> Iterator[tuple[int, bytes]]:
    """The segments of a JPEG up to its pixels: marker and content; none of what is no JPEG.

    Follows ITU-T T.81, annex B.
    """
    head = data[:_JPEG_HEAD].tobytes()
    place = 2 if head.startswith(b"\xff\xd8") else len(head)
    while place + 4 <= len(head) and head[place] == 0xFF:
        end = place + 2 + int.from_bytes(head[place + 2 : place + 4], "big")
        yield head[place + 1], head[place + 4 : end]
        place = end


_JPEG_HEAD = 1 << 18
"""Bytes in which the frame is looked for: what stands before it is at most an embedded preview."""
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame; the three that are left out are of tables."""


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, in the order of their paths."""
    if not folder.is_dir():
        raise ReadError(f"{folder} is not a folder of images")
    return [folder / name for name in _image_names(os.fspath(folder))]


def _image_names(folder: str, prefix: str = "") -> Iterator[str]:
    """The paths of images below a folder, seen from there; links to folders are not followed."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ReadError(f"cannot read the folder {folder}: {error.strerror or error}") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _image_names(entry.path, f"{prefix}{entry.name}/")
        elif os.path.splitext(entry.name)[1].lower() in SUFFIXES and entry.is_file():
            yield prefix + entry.name


def scan_folders(root: Path) -> tuple[ImageList, list[str]]:
    """The images of a tree ``root/class/image`` and the class names.

    Labels number the class folders in the order of their names.
    """
    if not root.is_dir():
        raise ReadError(f"{root} is not a folder: give one that holds a folder a class")
    classes = sorted(child.name for child in root.iterdir() if child.is_dir())
    counts = []

    def images_of(name: str) -> list[bytes]:
        images = _image_names(os.path.join(root, name), f"{name}/")
        encoded = [os.fsencode(image) for image in images]
        counts.append(len(encoded))
        return encoded

    names = Names.gather(chain.from_iterable(map(images_of, classes)))
    if not len(names):
        raise ReadError(f"{root} holds no class folder with images in it")
    return ImageList(
        root, names, np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    ), classes


def read_list(path: Path, root: Path) -> ImageList:
    """Read a Caffe image list: a path below ``root`` and a label on each line.

    The label is what follows the last white space, as in Caffe's ImageData layer and
    convert_imageset, so paths may hold spaces. Empty lines are skipped; there are no comments.
    Paths count from ``root/images`` instead if the first image lies there and not in ``root``.
    Whether the others exist shows when they are read.
    """
    names, labels, lines = read_columns(path)
    if not len(labels):
        raise ReadError(f"the list {path} names no image: it needs 'path label' on each line")
    images = ImageList(root, names, labels, path, lines)
    name, inside = os.fsdecode(names[0]), root / "images"
    # Not Path.is_file, which raises for names that are too long for the file system.
    if not os.path.isfile(root / name) and os.path.isfile(inside / name):
        images.root = inside
    return images


Column = npt.NDArray[np.int32]


def read_columns(path: Path, *, signed: bool = False) -> tuple[Names, Column, Column]:
    """The paths, the labels and the line numbers (from 1) of a list; empty lines are skipped.

    ``signed``: labels may be negative, and as large as 32 bits allow; else they have up to nine
    digits.
    """
    data, columns, first = bytearray(), [], 1
    for piece in _pieces(path):
        names, *numbers = _parse_piece(piece, path, first, signed)
        data.extend(names)
        columns.append(numbers)
        first += piece.count(b"\n")
    lengths, labels, lines = (
        np.concatenate([part[n] for part in columns] or [np.empty(0, np.int32)]) for n in range(3)
    )
    return Names(data, lengths), labels, lines


_PIECE = 1 << 20
"""Bytes of a list that are parsed at once: few enough to stay in a processor's cache."""


def _pieces(path: Path) -> Iterator[bytes]:
    """A list in UTF-8, in pieces of whole lines that all end with a line feed."""
    try:
        with path.open("rb") as file:
            piece = file.read(_PIECE)
            if b"\0" in piece or not piece[:1].isascii():  # UTF-16 or a byte order mark, perhaps.
                text = text_of(piece + file.read(), f"the list {path}")
                yield text.encode() + b"\n"
                return
            while piece:
                yield piece + (file.readline() or b"\n")
                piece = file.read(_PIECE)
    except OSError as error:
        raise ReadError(f"cannot read the list {path}: {error.strerror or error}") from error


_SPACE, _DIGIT = (np.isin(np.arange(256), list(kind)) for kind in (b" \t\n\r\v\f", b"0123456789"))


def _parse_piece(
    piece: bytes, path: Path, first: int, signed: bool
) -> tuple[bytes, Column, Column, Column]:
    """The paths of a piece's lines, one after the other; their lengths, labels, line numbers.

    All lines at once, from their ends: space, digits, space, and the path is what remains.
    """
    try:
        if not piece.isascii():
            piece.decode()
    except UnicodeDecodeError as error:
        number = first + piece.count(b"\n", 0, error.start)
        raise ReadError(f"{path}:{number}: is not UTF-8 text; save the list in UTF-8") from None
    text = np.frombuffer(piece, np.uint8)
    ends = np.flatnonzero(text == ord("\n")).astype(np.int32)
    starts = np.concatenate([np.zeros(1, np.int32), ends[:-1] + 1])
    places = np.arange(len(text), dtype=np.int32)
    space = _SPACE[text]
    ink = np.maximum.accumulate(np.where(space, np.int32(-1), places))  # The last one up to here.
    letter = np.maximum.accumulate(np.where(_DIGIT[text], np.int32(-1), places))

    stop = ink[ends] + 1
    kept = np.flatnonzero(stop > starts).astype(np.int32)
    starts, stop = starts[kept], stop[kept]
    label = letter[stop - 1] + 1
    digits = stop - label
    sign = np.zeros(len(kept), np.uint8)
    if signed:
        sign = np.where(np.isin(text[label - 1], list(b"+-")), text[label - 1], 0)
        label = label - (sign > 0)
    name = ink[label - 1] + 1
    values = np.zeros(len(kept), np.int64)
    for place in range(min(int(digits.max(initial=0)), 10)):
        figure = text[np.maximum(stop - 1 - place, 0)].astype(np.int64) - ord("0")
        values += np.where(place < digits, figure * 10**place, 0)
    values = np.where(sign == ord("-"), -values, values)
    labels = values.astype(np.int32)
    wrong = (digits < 1) | (digits > (10 if signed else 9)) | (labels != values)
    wrong |= (label <= starts) | (name == label) | (name <= starts)
    if 0 in piece:
        wrong[np.searchsorted(ends[kept], np.flatnonzero(text == 0))] = True
    if wrong.any():
        line = int(kept[wrong.argmax()])
        found = piece.split(b"\n", line + 1)[line].decode().strip()
        raise ReadError(
            f"{path}:{first + line}: expected a path, a space and "
            f"{'an integer label' if signed else 'a label (0, 1, 2, ...)'}, found {found[:100]!r}"
        )
    while (blank := space[starts]).any():
        starts = starts + blank
    edges = np.zeros(len(text) + 1, np.int8)
    edges[starts], edges[name] = 1, -1
    inside = np.cumsum(edges[:-1], dtype=np.int8).astype(bool)
    return text[inside].tobytes(), name - starts, labels, kept + np.int32(first)


def read_class_names(path: PathLike) -> tuple[str, ...]:
    """Class names, one a line; a WordNet id before a name (``n01440764 tench``) is left out.

    The line's number is the label, so an empty line is an error unless nothing follows it.
    """
    names: list[str] = []
    for number, line in _read_lines(Path(path), "the class names"):
        if number != len(names) + 1:
            raise ReadError(
                f"{os.fspath(path)}:{len(names) + 1}: the line is empty, so the class {len(names)} "
                "has no name: give each class a line of its own"
            )
        head, _, rest = line.strip().partition(" ")
        is_id = re.fullmatch(r"n[0-9]{8}", head) is not None
        names.append(rest if is_id and rest else line.strip())
    return tuple(names)


def _read_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """The lines of a text that are not empty, with their numbers from 1."""
    try:
        text = text_of(path.read_bytes(), f"{what} {path}")
    except OSError as error:
        raise ReadError(f"cannot read {what} {path}: {error.strerror or error}") from error
    return [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
