"""Images in tar files, sharded as by the WebDataset library: each image beside its label.

Follows webdataset/tariterators.py (base_plus_ext, group_by_keys) for what a sample is.
"""

from __future__ import annotations

import http.client
import itertools
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.images import SUFFIXES, Decoder, ImageError, decode_image
from caffe2torch.training.distributed import ALONE, Team
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
    digits; other members do not matter. Where they lie is known before any image is read, so that
    any order is possible: from the index beside a file, if it is as new as the file and ends where
    that does, else from the headers in it; of ``https://.../x.tar`` from ``x.idx`` there, and then
    a part of the file is asked for with each image. The processes of a ``team`` share the files
    out and tell each other what they found.

    Raises ReadError for a file that is no tar file or was cut short, for a sample that lacks an
    image or a label, for a server that does not answer, and in ``read`` for a file that was
    changed.
    """

    def __init__(self, names: Sequence[str], team: Team = ALONE) -> None:
        self.names = tuple(names)
        found: list[_Shard] | str
        try:
            with ThreadPoolExecutor(8) as pool:  # They wait for the disk or the network.
                found = list(pool.map(_find, self.names[team.rank :: team.world]))
        except ReadError as error:
            found = str(error)  # All processes raise what one of them has found.
        everyone = team.gather(found)
        for message in everyone:
            if isinstance(message, str):
                raise ReadError(message)
        shards = [everyone[n % team.world][n // team.world] for n in range(len(names))]
        for name, shard in zip(self.names, shards, strict=True):
            if team.world > 1 and not is_url(name) and _size(name) != shard.bytes:
                raise ReadError(
                    f"{name} has {_size(name):,} bytes, and {shard.bytes:,} where another process "
                    "of the job reads it: copy it again"
                )
        counts = [len(shard.samples) for shard in shards]
        self._shards = np.repeat(np.arange(len(names), dtype=np.int32), counts)
        self._places = np.concatenate([shard.samples for shard in shards])
        if not len(self._places):
            raise ReadError(f"{names[0]} holds no samples: members such as 0.jpg and 0.cls")

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int, decode: Decoder = decode_image) -> tuple[Any, int]:
        """The image, made by ``decode`` of its bytes, and its label."""
        sample, name = _Sample(*self._places[index].tolist()), self._name(index)
        first = min(sample.image, sample.label) - BLOCK
        last = max(sample.image + sample.image_bytes, sample.label + sample.label_bytes)
        data = (_download if is_url(name) else _read)(name, first, last - first)
        image, label = (
            data[start - first : start - first + size] for start, size in (sample[:2], sample[2:])
        )
        headers = [data[start - first - BLOCK : start - first] for start in sample[::2]]
        keys = {_text(header[:100]).rpartition("/")[2].partition(".")[0] for header in headers}
        if not all(map(_is_header, headers, sample[1::2])) or len(keys) > 1:
            raise ReadError(
                f"{name} has no sample of {sample.image_bytes} bytes at byte {sample.image}, where "
                "its index or an earlier look at it found one: it was changed or is damaged; make "
                "the index again, and start again"
            )
        if not label.strip().isdigit():
            raise ImageError(f"its label (.cls) is {label[:20]!r}, not digits")
        return decode(np.frombuffer(image, np.uint8), self.where(index)), int(label)

    def where(self, index: int) -> str:
        """The tar file and the place in it."""
        return f"{self._name(index)}, image at byte {self._places[index][0]}"

    def _name(self, index: int) -> str:
        return self.names[int(self._shards[index])]


class _Shard(NamedTuple):
    """A row for each sample of a tar file, as _Sample has its columns; the size of a local file."""

    samples: npt.NDArray[np.int64]
    bytes: int


def _find(file: str) -> _Shard:
    if is_url(file):
        return _Shard(_table(file, _indexed(file)), 0)
    found = _beside(file)
    return _Shard(_table(file, _walked(file)) if found is None else found, _size(file))


def _table(file: str, samples: Iterable[Sequence[Any]]) -> npt.NDArray[np.int64]:
    """Where the image and the label lie of samples that are told of as in an index."""
    columns: dict[tuple[str, ...], tuple[int, int]] = {}
    numbers: list[Any] = []
    for words in samples:
        kinds = tuple(words[::4])
        if kinds not in columns:
            columns[kinds] = _columns(file, kinds, words[3])
        image, label = columns[kinds]
        numbers += words[image], words[image + 1], words[label], words[label + 1]
    try:
        return np.array(list(map(int, numbers)), np.int64).reshape(-1, len(_Sample._fields))
    except OverflowError:
        raise ReadError(
            f"{file}: its index tells of places that no file has: make it again"
        ) from None


def _columns(file: str, kinds: Sequence[str], name: str) -> tuple[int, int]:
    """The words of a sample that begin to tell of its image and its label."""
    kinds = [kind.lower() for kind in kinds]
    images = [n for n, kind in enumerate(kinds) if f".{kind}" in SUFFIXES]
    if len(images) != 1 or kinds.count("cls") != 1:
        raise ReadError(
            f"{file}: the sample {_key(name)!r} has the members {', '.join(sorted(kinds))}: it "
            "needs one image (.jpg, .png) and its label (.cls)"
        )
    return 4 * images[0] + 1, 4 * kinds.index("cls") + 1


_NAME = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)")
_META = re.compile(r"__[^/]*__($|/)")


def _key(name: str) -> str | None:
    """What the names of a sample's members have in common; None for one that is of no sample."""
    found = _NAME.fullmatch(name)
    return None if found is None or _META.match(name) else found[1]


def _beside(path: str) -> npt.NDArray[np.int64] | None:
    """What the index of a file tells of; None where there is none that fits the file."""
    index = index_of(path)
    try:
        with open(index, "rb") as file, open(path, "rb", buffering=0) as tar:
            about = os.fstat(tar.fileno())
            if os.fstat(file.fileno()).st_mtime_ns < about.st_mtime_ns:
                return None
            samples = read_index(file.read(), index)
            start, size = map(int, samples[-1][-3:-1]) if samples else (BLOCK, 0)
            last = os.pread(tar.fileno(), BLOCK, start - BLOCK)
            after = os.pread(tar.fileno(), BLOCK, start + -(-size // BLOCK) * BLOCK)
        table = _table(path, (words for words in samples if _key(words[3])))
    except (OSError, OverflowError, ReadError):  # What is wrong with the file shows in a walk.
        return None
    inside = (table[:, ::2] >= BLOCK) & (table[:, ::2] + table[:, 1::2] <= about.st_size)
    fits = inside.all() and _is_header(last, size) and after == bytes(BLOCK)
    return table if fits else None


def _walked(path: str) -> Iterator[list[Any]]:
    """The samples of a file by its headers, told of as in an index."""
    members = ((key, member) for member in _members(path) if (key := _key(member[0])))
    for key, run in itertools.groupby(members, lambda member: member[0]):
        words: list[Any] = []
        for _, (name, start, size) in run:
            words += name[len(key) + 1 :], start, size, name
        yield words


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror}{_pattern(path)}") from error


def _pattern(path: str) -> str:
    """What to write instead of a pattern that another program or ``squeezenet pack`` takes."""
    if not re.search(r"%0?\d*d|\*", path):
        return ""
    return "; several tar files are named as train-{000000..000123}.tar, the first and the last"


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


def _indexed(url: str) -> list[list[str]]:
    """The samples that the index ``x.idx`` of a file ``x.tar`` tells of."""
    index = index_of(url)
    try:
        text = _download(index)
    except ReadError as error:
        raise ReadError(
            f"{error}: a tar file behind a URL needs an index beside it, as wds2idx of NVIDIA's "
            "DALI makes it; or copy the file to a disk"
        ) from None
    return [words for words in read_index(text, index) if _key(words[3])]


def _members(path: str) -> Iterator[Member]:
    """Name, place and size of the files in a tar file (ustar, GNU or pax)."""
    try:
        with open(path, "rb", buffering=0) as file:
            yield from _walk(file.fileno(), path)
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror}{_pattern(path)}") from error


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


def _is_header(block: bytes, size: int) -> bool:
    """Whether a block is the header of a member of so many bytes."""
    return block[257:262] == b"ustar" and _number(block[124:136]) == size


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary form of sizes from 8 GiB; -1 for anything else."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0") or b"0"
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else -1


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
