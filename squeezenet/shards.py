"""Images in tar files, sharded as by the WebDataset library: each image beside its label.

Follows webdataset/tariterators.py (base_plus_ext, group_by_keys) for what a sample is.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.images import SUFFIXES, ImageError, Pixels, decode_image

BLOCK = 512
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def expand(name: str) -> list[str]:
    """The names of ``train-{000..123}.tar``, numbered with as many digits as the first one has."""
    found = _RANGE.search(name)
    if found is None:
        return [name]
    before, after = name[: found.start()], expand(name[found.end() :])
    numbers = range(int(found[1]), int(found[2]) + 1)
    return [f"{before}{number:0{len(found[1])}}{rest}" for number in numbers for rest in after]


class _Sample(NamedTuple):
    """Where a sample's image and label lie in a tar file, in bytes."""

    image: int
    image_bytes: int
    label: int
    label_bytes: int


class ShardSource:
    """The images of tar files, in the order of files and samples; read where they lie.

    A sample is the run of members whose names are the same up to the first dot of the last part:
    an image (``.jpg``, ``.png`` and what else is in SUFFIXES) and a ``.cls`` with its label in
    digits; other members do not matter. Only the headers are read before the images are, so that
    any order is possible. Raises ReadError for a file that is no tar file or was cut short, and for
    a sample that lacks an image or a label.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        with ThreadPoolExecutor(8) as pool:  # They wait for the disk.
            tables = list(pool.map(_index, paths))
        self._shards = np.repeat(np.arange(len(paths), dtype=np.int32), [len(t) for t in tables])
        self._places = np.concatenate(tables)
        if not len(self._places):
            raise ReadError(f"{paths[0]} holds no samples: members such as 0.jpg and 0.cls")

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int, least: int = 0) -> tuple[Pixels, int]:
        """Decode the image, colours in OpenCV's order."""
        sample = _Sample(*self._places[index].tolist())
        try:
            with self._path(index).open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), sample.image_bytes, sample.image)
                label = os.pread(file.fileno(), sample.label_bytes, sample.label)
        except OSError as error:
            raise ImageError(f"cannot read {self._path(index)}: {error.strerror}") from error
        if not label.strip().isdigit():
            raise ImageError(f"its label (.cls) is {label[:20]!r}, not digits")
        pixels = decode_image(np.frombuffer(data, np.uint8), self.where(index), least=least)
        return pixels, int(label)

    def where(self, index: int) -> str:
        """The tar file and the place in it."""
        return f"{self._path(index)}, image at byte {self._places[index][0]}"

    def _path(self, index: int) -> Path:
        return self.paths[int(self._shards[index])]


def _index(path: Path) -> npt.NDArray[np.int64]:
    """A row for each sample of a tar file, as _Sample has its columns."""
    rows = []
    try:
        with path.open("rb", buffering=0) as file:
            members = (
                (name[1], name[2].lower(), (start, size))
                for text, start, size in _members(file.fileno(), path)
                if (name := _NAME.fullmatch(text)) and not _META.match(text)
            )
            for key, run in itertools.groupby(members, lambda member: member[0]):
                rows.append(_sample(path, key, {kind: place for _, kind, place in run}))
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror}") from error
    return np.array(rows, np.int64).reshape(-1, len(_Sample._fields))


_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)")
_META = re.compile(r"__[^/]*__($|/)")


def _sample(path: Path, key: str, parts: dict[str, tuple[int, int]]) -> _Sample:
    images = [name for name in parts if f".{name}" in SUFFIXES]
    if len(images) != 1 or "cls" not in parts:
        raise ReadError(
            f"{path}: the sample {key!r} has the members {', '.join(sorted(parts))}: it needs one "
            "image (.jpg, .png) and its label (.cls)"
        )
    return _Sample(*parts[images[0]], *parts["cls"])


def _members(file: int, path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of the files in a tar file (ustar, GNU or pax)."""
    place, end = 0, os.fstat(file).st_size
    longer: dict[str, str] = {}
    while place < end:
        header = os.pread(file, BLOCK, place)
        if not header.strip(b"\0"):
            return
        if header[257:262] != b"ustar":
            raise ReadError(
                f"{path}: there is no tar header at byte {place}: it is damaged, compressed, or of "
                "another kind; make it again with tar, without -z"
            )
        size = int(longer.pop("size", 0)) or _number(header[124:136])
        start, kind = place + BLOCK, header[156:157]
        place = start + -(-size // BLOCK) * BLOCK
        if start + size > end:
            raise ReadError(f"{path} was cut short, to {end:,} bytes: copy or make it again")
        if kind == b"L":
            longer["path"] = _text(os.pread(file, size, start))
        elif kind == b"x":
            records = re.finditer(rb"\d+ (path|size)=([^\n]*)\n", os.pread(file, size, start))
            longer = {_text(record[1]): _text(record[2]) for record in records}
        elif kind in b"0\0":
            prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
            name = f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])
            yield longer.pop("path", name), start, size


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary form of sizes from 8 GiB."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
