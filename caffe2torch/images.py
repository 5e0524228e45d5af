"""Image files: found in folders, named by lists, decoded; and the names of their classes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.io.files import text_of

PathLike = str | os.PathLike[str]
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""(height, width, 3), blue first; or (height, width) of a grey image."""

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


def read_image(path: PathLike, channels: int = 3) -> Pixels:
    """The pixels of a file: (H, W, 3), blue first, or grey (H, W) for one channel.

    Raises ImageError, which names the file, if it cannot be read or decoded.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read the image {os.fspath(path)}: {cause}") from error
    return decode_image(data, os.fspath(path), channels)


def decode_image(data: npt.NDArray[np.uint8], source: str, channels: int = 3) -> Pixels:
    """The pixels of an image file's bytes; ``source`` names them in errors."""
    import cv2

    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    try:
        pixels: Pixels | None = cv2.imdecode(data, flag) if data.size else None
    except cv2.error:  # Of an image that is larger than OpenCV allows.
        pixels = None
    if pixels is None:
        raise ImageError(
            f"{source} is not an image that OpenCV can decode ({data.size} bytes): "
            "it is damaged or of another format; convert it to JPEG or PNG"
        )
    return pixels


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, in the order of their paths."""
    if not folder.is_dir():
        raise ReadError(f"{folder} is not a folder of images")
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
    )


def scan_folders(root: Path) -> tuple[list[Sample], list[str]]:
    """The images of a tree ``root/class/image`` and the class names.

    Labels number the class folders in the order of their names.
    """
    if not root.is_dir():
        raise ReadError(f"{root} is not a folder: give one that holds a folder a class")
    classes = sorted(child.name for child in root.iterdir() if child.is_dir())
    samples = [
        Sample(path, label)
        for label, name in enumerate(classes)
        for path in find_images(root / name)
    ]
    if not samples:
        raise ReadError(f"{root} holds no class folder with images in it")
    return samples, classes


def read_list(path: Path, root: Path) -> list[Sample]:
    """Read a Caffe image list: a path below ``root`` and a label on each line.

    The label is what follows the last white space, as in Caffe's ImageData layer and
    convert_imageset, so paths may hold spaces. Empty lines are skipped; there are no comments.
    Paths count from ``root/images`` instead if the first image lies there and not in ``root``.
    Whether the others exist shows when they are read.
    """
    lines = _read_lines(path, "the list")
    entries = [_parse_line(line, f"{path}:{n}") for n, line in lines]
    if not entries:
        raise ReadError(f"the list {path} names no image: it needs 'path label' on each line")
    first, inside = entries[0][0], root / "images"
    # Not Path.is_file, which raises for names that are too long for the file system.
    if not os.path.isfile(root / first) and os.path.isfile(inside / first):
        root = inside
    return [Sample(root / name, label, where) for name, label, where in entries]


def _parse_line(line: str, where: str) -> tuple[str, int, str]:
    match = re.fullmatch(r"\s*(\S[^\0]*?)\s+([0-9]{1,9})\s*", line)
    if match is None:
        raise ReadError(
            f"{where}: expected a path, a space and a label (0, 1, 2, ...), "
            f"found {line.strip()[:100]!r}"
        )
    return match[1], int(match[2]), where


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
