"""What images are packed into: an LMDB as Caffe's tool makes it, or tar files as WebDataset's.

Follows tools/convert_imageset.cpp for keys and Datums; webdataset/writer.py (ShardWriter) for how
tar files are named and filled, and tools/wds2idx.py of NVIDIA's DALI for the index beside each.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from caffe2torch.errors import ArtefactError, ReadError, first_line
from caffe2torch.images import ImageError
from caffe2torch.io.atomic import atomic_group, atomic_write
from caffe2torch.io.schema import message_class
from squeezenet.tar_index import Member, index_of, index_text, read_index

COMMIT_BYTES = 64 << 20
"""Written to an LMDB at once: what a killed packing loses at most, and what it holds in memory."""
LONGEST_KEY = 511
"""Bytes of a key that an LMDB takes."""
NAMED_BYTES = 64
"""Of an image's path, how much its name in a tar file shows; 100 bytes have to hold that name."""
SHARD_BYTES = 10**9
"""How large a tar file becomes, unless said otherwise."""


class Packed(NamedTuple):
    """An image to be stored, as the bytes of a file or as planes of raw pixels.

    ``number`` and ``name`` are its place in the order of packing and its path in the list;
    ``kind`` is the file's suffix ("jpg", "png", "bmp"), or None for raw pixels, blue
    first; ``shape`` is (channels, height, width).
    """

    number: int
    name: bytes
    label: int
    data: bytes
    kind: str | None
    shape: tuple[int, ...]


class Sink(Protocol):
    """Takes records in the order of their numbers. After a kill it has the first of them, whole."""

    def __enter__(self) -> Sink: ...
    def __exit__(self, *_: Any) -> None: ...

    @staticmethod
    def record(image: Packed) -> tuple[bytes, bytes]:
        """The key and the bytes of an image, made in a worker process.

        Raises ImageError for one that cannot be stored.
        """

    def begin(self, job: Mapping[str, Any]) -> int:
        """Begin a packing or go on with one: return the number of the first record to put.

        Raises ArtefactError for something else in its place.
        """

    def first_number(self) -> int | None:
        """The number of the first record that is there, if any is."""

    def put(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Add records, whose numbers follow all others."""

    def finish(self) -> int:
        """Give the whole its name, and return how many records it has; without any, remove it."""

    @property
    def part(self) -> Path:
        """What is there until the packing is finished."""


class DatabaseSink:
    """An LMDB that is written in order; what is put is there after a commit.

    Until it is finished it is ``output.part``, a folder with the record of the job in it.
    """

    def __init__(self, output: Path) -> None:
        try:
            import lmdb
        except ImportError:
            raise ReadError(
                'an LMDB needs the package lmdb: pip install "caffe2torch[lmdb]"'
            ) from None
        self.lmdb, self.output = lmdb, output
        self.part = output.with_name(f"{output.name}.part")
        self.job = self.part / "pack.json"
        self.waiting: list[tuple[bytes, bytes]] = []
        self.bytes = 0
        self.environment: Any = None

    def __str__(self) -> str:
        return str(self.output)

    def __enter__(self) -> DatabaseSink:
        return self

    def __exit__(self, *_: object) -> None:
        if self.environment is not None:
            self.environment.close()

    @staticmethod
    def record(image: Packed) -> tuple[bytes, bytes]:
        """The key ``%08d_path`` and a Datum."""
        key = b"%08d_%s" % (image.number, image.name)
        if len(key) > LONGEST_KEY:
            raise ImageError(f"its path is longer than the {LONGEST_KEY - 9} bytes of a key")
        fields: dict[str, Any] = {"label": image.label, "data": image.data}
        fields["encoded"] = image.kind is not None
        if image.kind is None:
            fields |= zip(("channels", "height", "width"), image.shape, strict=True)
        value: bytes = message_class("Datum")(**fields).SerializeToString(deterministic=True)
        return key, value

    def begin(self, job: Mapping[str, Any]) -> int:
        """Open the database and return the number after its last record's."""
        if self.output.exists():
            raise ArtefactError(f"{self.output} exists: remove it, or give another name")
        _begin(self.job, job, self.part)
        try:
            self.environment = self.lmdb.open(str(self.part), map_size=1 << 30)
        except self.lmdb.Error as error:
            raise self._refused(error) from error
        with self.environment.begin() as transaction, transaction.cursor() as cursor:
            return _number(cursor.key()) + 1 if cursor.last() else 0

    def first_number(self) -> int | None:
        """The number of the first record."""
        with self.environment.begin() as transaction, transaction.cursor() as cursor:
            return _number(cursor.key()) if cursor.first() else None

    def put(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Add records, and commit them where there are enough."""
        self.waiting += records
        self.bytes += sum(len(value) for _, value in records)
        if self.bytes >= COMMIT_BYTES:
            self._commit()

    def finish(self) -> int:
        """Commit the last records, and rename the database."""
        self._commit()
        count = int(self.environment.stat()["entries"])
        self.environment.close()
        if not count:
            shutil.rmtree(self.part)
            return 0
        self.part.rename(self.output)
        # After that: a complete database has its name, come what may.
        (self.output / self.job.name).unlink()
        return count

    def _commit(self) -> None:
        """Write what was put, in a database that is made as large as it needs to be."""
        while True:
            try:
                with self.environment.begin(write=True) as transaction:
                    for key, value in self.waiting:
                        transaction.put(key, value, append=True)
                break
            except self.lmdb.MapFullError:
                self.environment.set_mapsize(2 * self.environment.info()["map_size"])
            except self.lmdb.Error as error:
                raise self._refused(error) from error
        self.waiting, self.bytes = [], 0

    def _refused(self, error: Exception) -> ArtefactError:
        return ArtefactError(
            f"cannot write the LMDB {self.part}: {first_line(error)}; when that is corrected, "
            "the same command goes on from here"
        )


class ShardSink:
    """Tar files ``train-%06d.tar``, each beside its index ``train-%06d.idx``, there when whole.

    A file is as large as ``size`` bytes allow, and holds one image at least. Members have no time
    and no owner, so that the same images give the same bytes. Until all is done there is
    ``output.part``, a file with the record of the job.
    """

    def __init__(self, output: Path, size: int = SHARD_BYTES) -> None:
        found = _PATTERN.fullmatch(output.name)
        if found is None:
            raise ReadError(
                f"{output} gives tar files no numbers: name them as train-%06d.tar does; how many "
                "they become follows from --shard-size"
            )
        self.before, self.digits, self.after = found[1], int(found[2] or 1), found[3]
        self.output, self.size = output, size
        self.part = output.with_name(f"{output.name}.part")
        self.shards = self.count = 0
        self.first: int | None = None
        self._files = ExitStack()
        """The tar file that is being written and its index, and what they hold so far."""
        self._tar: BinaryIO
        self._index: BinaryIO
        self._samples: list[list[Member]] = []
        self._place = 0

    def __str__(self) -> str:
        """The name that readers give to all of them."""
        first, last = (f"{number:0{self.digits}}" for number in (0, self.shards - 1))
        return str(self.output.with_name(f"{self.before}{{{first}..{last}}}{self.after}"))

    def __enter__(self) -> ShardSink:
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)

    @staticmethod
    def record(image: Packed) -> tuple[bytes, bytes]:
        """The key ``%08d_path``, and two members of a tar file: the label and the image.

        Readers of WebDataset end a key at the first dot, and those of an index a name at a space:
        all but letters, digits, ``-`` and ``_`` of the path become ``_``.
        """
        assert image.kind is not None  # No reader knows raw pixels without a header.
        path = _STRANGE.sub("_", os.path.splitext(os.fsdecode(image.name))[0])[-NAMED_BYTES:]
        key = f"{image.number:08d}_{path}"
        members = ("cls", b"%d" % image.label), (image.kind, image.data)
        return key.encode(), b"".join(_member(f"{key}.{kind}", data) for kind, data in members)

    def begin(self, job: Mapping[str, Any]) -> int:
        """Find the files that are whole, and return the number after that of their last image."""
        found = self._found()
        if found and not self.part.exists():
            raise ArtefactError(f"{found[0]} exists: remove it, or give another name")
        _begin(self.part, {**job, "shard_size": self.size}, self.part)
        after = 0
        while (path := self._path(self.shards)) in found:
            index = path.with_suffix(".idx")
            try:
                samples = read_index(index.read_bytes(), str(index))
            except (OSError, ReadError):  # Somebody has meddled: both are made again.
                break
            first, last = (_number(samples[place][3].encode()) for place in (0, -1))
            self.first = first if self.first is None else self.first
            self.count += len(samples)
            self.shards, after = self.shards + 1, last + 1
        return after

    def first_number(self) -> int | None:
        """The number of the first image of the first file."""
        return self.first

    def put(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Add images, in a file after the last one where that has no room for them."""
        for _, value in records:
            if self._samples and self._place + len(value) + END > self.size:
                self._complete()
            if not self._samples:
                group = self._files.enter_context(atomic_group())
                path = self._path(self.shards)
                self._index, self._tar = group.open(index_of(str(path))), group.open(path)
            self._samples.append(_members(value, self._place))
            self._tar.write(value)
            self._place += len(value)

    def finish(self) -> int:
        """Complete the last file; after that the record of the job goes."""
        self._complete()
        self.part.unlink()
        return self.count

    def _complete(self) -> None:
        """Publish the file that is being written, if one is."""
        if self._samples:
            self._tar.write(bytes(END))
            self._tar.flush()
            self._index.write(index_text(self._samples))  # After that: it is to be as new.
            self._files.close()
            self.count += len(self._samples)
            self.shards += 1
        self._samples, self._place = [], 0

    def _path(self, number: int) -> Path:
        return self.output.with_name(f"{self.before}{number:0{self.digits}}{self.after}")

    def _found(self) -> list[Path]:
        """The files of such names that are there."""
        names = re.compile(rf"{re.escape(self.before)}\d+{re.escape(self.after)}")
        folder = self.output.parent
        files = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in files if names.fullmatch(path.name))


_PATTERN = re.compile(r"([^%{}]*)%(?:0(\d+))?d([^%{}]*\.tar)")
_STRANGE = re.compile(r"[^0-9A-Za-z_-]")
END = 2 * tarfile.BLOCKSIZE
"""Bytes of zeros at the end of a tar file."""


def _members(sample: bytes, place: int) -> list[Member]:
    """The members of a sample whose first header stands at ``place``."""
    members, start = [], 0
    while start < len(sample):
        name = sample[start : start + 100].rstrip(b"\0").decode()
        size = int(sample[start + 124 : start + 135], 8)
        start += tarfile.BLOCKSIZE
        members.append((name, place + start, size))
        start += size + -size % tarfile.BLOCKSIZE
    return members


def _member(name: str, data: bytes) -> bytes:
    """A file in a tar file: its header and its content, in whole blocks."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def _begin(record: Path, job: Mapping[str, Any], part: Path) -> None:
    """Note what is packed, in the file ``record``; refuse the remains of another job."""
    plain = json.loads(json.dumps(job))
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            with atomic_write(record) as file:
                file.write(json.dumps(plain).encode())
        found = json.loads(record.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtefactError(f"cannot begin {part}: {error}") from error
    if found != plain:
        other = [name for name in plain if plain[name] != dict(found).get(name)]
        raise ArtefactError(
            f"{part} is the beginning of another packing, which differs in {', '.join(other)}: "
            "repeat the command that made it, remove it, or give another name"
        )


def _number(key: bytes) -> int:
    return int(key.partition(b"_")[0])
