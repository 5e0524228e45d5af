"""Images in tar files, sharded as by the WebDataset library: each image beside its label.

Follows webdataset/tariterators.py (base_plus_ext, group_by_keys) for what a sample is, and for the
index of a file behind a URL tools/wds2idx.py of NVIDIA's DALI, version 1.2.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.images import SUFFIXES, ImageError, Pixels, decode_image
from squeezenet.tar_index import Member, index_of, read_index

BLOCK = 512
TIMEOUT_S = 30
PAUSES_S = (0.0, 0.5, 2.0, 8.0)
"""Before each attempt to reach a server."""
BUSY = frozenset({429, 500, 502, 503, 504})
"""HTTP's answers after which it is worth to ask again."""
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def is_url(name: str) -> bool:
    """Whether a name is that of something on a web server."""
    return name.startswith(("https://", "http://"))


def expand(name: str) -> list[str]:
    """The names of ``train-{000..123}.tar``, numbered with as many digits as the first one has.

    Raises ReadError for numbers that go down.
    """
    found = _RANGE.search(name)
    if found is None:
        return [name]
    before, after = name[: found.start()], expand(name[found.end() :])
    numbers = range(int(found[1]), int(found[2]) + 1)
    if not numbers:
        raise ReadError(f"{name}: {found[0]} names no file; give the lower number first")
    return [f"{before}{number:0{len(found[1])}}{rest}" for number in numbers for rest in after]


class _Sample(NamedTuple):
    """Where a sample's image and label lie in a tar file, in bytes."""

    image: int
    image_bytes: int
    label: int
    label_bytes: int


class ShardSource:
    """The images of tar files or URLs, in the order of files and samples; read where they lie.

    A sample is the run of members whose names are the same up to the first dot of the last part:
    an image (``.jpg``, ``.png`` and what else is in SUFFIXES) and a ``.cls`` with its label in
    digits; other members do not matter. Of a file only the headers are read before the images
    are, so that any order is possible; of ``https://.../x.tar``, ``x.idx`` beside it, and then a
    part of the file for each image. Raises ReadError for a file that is no tar file or was cut
    short, for a sample that lacks an image or a label, and for a server that does not answer.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        with ThreadPoolExecutor(8) as pool:  # They wait for the disk or the network.
            tables = list(pool.map(_find, self.names))
        self._shards = np.repeat(np.arange(len(names), dtype=np.int32), [len(t) for t in tables])
        self._places = np.concatenate(tables)
        if not len(self._places):
            raise ReadError(f"{names[0]} holds no samples: members such as 0.jpg and 0.cls")

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int, least: int = 0) -> tuple[Pixels, int]:
        """Decode the image, colours in OpenCV's order."""
        sample, name = _Sample(*self._places[index].tolist()), self._name(index)
        first = min(sample.image, sample.label) - BLOCK
        last = max(sample.image + sample.image_bytes, sample.label + sample.label_bytes)
        data = (_download if is_url(name) else _read)(name, first, last - first)
        image, label = (
            data[start - first : start - first + size] for start, size in (sample[:2], sample[2:])
        )
        for start, size in (sample[:2], sample[2:]):
            header = data[start - first - BLOCK : start - first]
            if header[257:262] != b"ustar" or _number(header[124:136]) != size:
                raise ReadError(
                    f"{name} has no member of {size} bytes at byte {start}, of which its index "
                    "tells: it was changed or is damaged; make the index again"
                )
        if not label.strip().isdigit():
            raise ImageError(f"its label (.cls) is {label[:20]!r}, not digits")
        pixels = decode_image(np.frombuffer(image, np.uint8), self.where(index), least=least)
        return pixels, int(label)

    def where(self, index: int) -> str:
        """The tar file and the place in it."""
        return f"{self._name(index)}, image at byte {self._places[index][0]}"

    def _name(self, index: int) -> str:
        return self.names[int(self._shards[index])]


def _find(file: str) -> npt.NDArray[np.int64]:
    """A row for each sample of a tar file, as _Sample has its columns."""
    members = (
        (name[1], name[2].lower(), (start, size))
        for text, start, size in (_indexed if is_url(file) else _members)(file)
        if (name := _NAME.fullmatch(text)) and not _META.match(text)
    )
    rows = [
        _sample(file, key, {kind: place for _, kind, place in run})
        for key, run in itertools.groupby(members, lambda member: member[0])
    ]
    return np.array(rows, np.int64).reshape(-1, len(_Sample._fields))


_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)")
_META = re.compile(r"__[^/]*__($|/)")


def _sample(path: str, key: str, parts: dict[str, tuple[int, int]]) -> _Sample:
    images = [name for name in parts if f".{name}" in SUFFIXES]
    if len(images) != 1 or "cls" not in parts:
        raise ReadError(
            f"{path}: the sample {key!r} has the members {', '.join(sorted(parts))}: it needs one "
            "image (.jpg, .png) and its label (.cls)"
        )
    return _Sample(*parts[images[0]], *parts["cls"])


def _read(path: str, start: int, size: int) -> bytes:
    """A part of a file."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, start)
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror}") from error


def _download(url: str, start: int | None = None, size: int = 0) -> bytes:
    """A part of what a URL holds, or all of it, asked for again if the server is at a loss."""
    headers = {"User-Agent": "caffe2torch"}
    if start is not None:
        headers["Range"] = f"bytes={start}-{start + size - 1}"
    for pause in PAUSES_S:
        time.sleep(pause)
        try:
            request = urllib.request.Request(url, headers=headers)
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                if start is not None and response.status != 206:
                    raise ReadError(f"{url}: the server sends no parts of files (HTTP ranges)")
                data: bytes = response.read()
            if start is None or len(data) == size:
                return data
            cause = f"{len(data)} of {size} bytes came"
        except urllib.error.HTTPError as error:
            cause = str(error)
            if error.code not in BUSY:
                break
        except (OSError, http.client.HTTPException) as error:
            cause = str(error)
    raise ReadError(f"cannot read {url}: {cause}")


def _indexed(url: str) -> Iterator[Member]:
    """As ``_members``, by the index ``x.idx`` of a file ``x.tar``."""
    index = index_of(url)
    try:
        text = _download(index)
    except ReadError as error:
        raise ReadError(
            f"{error}: a tar file behind a URL needs an index beside it, as wds2idx of NVIDIA's "
            "DALI makes it; or copy the file to a disk"
        ) from None
    return read_index(text, index)


def _members(path: str) -> Iterator[Member]:
    """Name, place and size of the files in a tar file (ustar, GNU or pax)."""
    try:
        with open(path, "rb", buffering=0) as file:
            yield from _walk(file.fileno(), path)
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror}") from error


def _walk(file: int, path: str) -> Iterator[Member]:
    place, end = 0, os.fstat(file).st_size
    longer: dict[str, str] = {}
    while place < end:
        header = os.pread(file, BLOCK, place)
        if not header.strip(b"\0"):
            return
        longer_size = longer.pop("size", "")
        size = int(longer_size) if longer_size.isdecimal() else _number(header[124:136])
        if header[257:262] != b"ustar" or size < 0:
            raise ReadError(
                f"{path}: there is no tar header at byte {place}: it is damaged, compressed, or of "
                "another kind; make it again with tar, without -z"
            )
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
    if end:  # Blocks of zeros end a whole one.
        raise ReadError(f"{path} was cut short, to {end:,} bytes: copy or make it again")


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary form of sizes from 8 GiB; -1 for anything else."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else -1


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
