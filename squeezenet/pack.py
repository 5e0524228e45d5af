"""Images packed once for many readings: an LMDB of Datums as Caffe's tool makes it.

Follows tools/convert_imageset.cpp, ReadImageToDatum and CVMatToDatum in src/caffe/util/io.cpp.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich import progress
from rich.console import Console
from torch.utils.data import Dataset

from caffe2torch.data.prefetch import load_batches
from caffe2torch.errors import ArtefactError, ReadError, WorkerError, first_line
from caffe2torch.images import ImageError, ImageList, read_image
from caffe2torch.io.atomic import atomic_write
from caffe2torch.io.schema import message_class
from squeezenet.data import Bad, BadImages

CHUNK = 32
"""Images that a worker process hands over at once."""
COMMIT_BYTES = 64 << 20
"""Written at once: what a killed packing loses at most, and what it holds in memory."""
LONGEST_KEY = 511
"""Bytes of a key that an LMDB takes."""
RECORD = "pack.json"


@dataclass(frozen=True)
class Packing:
    """How images become Datums; each field is an option of convert_imageset.

    ``size``: the height and width that images are resized to, bilinearly; None: they stay as
    they are. ``encoded``: "jpg" or "png" files in the Datums instead of raw pixels; a file of
    that type that is not changed is stored as it is. ``check_size``: all images must have the
    channels, height and width of the first. ``seed`` is that of ``shuffle``.
    """

    size: tuple[int, int] | None = (256, 256)
    encoded: str | None = None
    gray: bool = False
    shuffle: bool = False
    check_size: bool = False
    seed: int = 0


def pack(
    images: ImageList,
    output: Path,
    packing: Packing,
    *,
    workers: int,
    bad: BadImages,
    report: Callable[[str], None],
    show_progress: bool = False,
) -> int:
    """Write the LMDB ``output`` and return how many images are in it.

    The keys are ``%08d_path``, numbered in the order of the list or in a random one; images
    that cannot be used are left out and keep their numbers. Until all is done the database is
    ``output.part``, and the same call goes on with what it finds there.
    Raises ArtefactError where nothing can be written.
    """
    if output.exists():
        raise ArtefactError(f"{output} exists: remove it, or give another name")
    part = output.with_name(f"{output.name}.part")
    _begin(part, {**asdict(packing), "images": images.digest()})
    with _Database(part) as database:
        done = database.next_number()
        if done:
            report(f"going on after {done} of {len(images)} images in {part}")
        records = _records(images, packing, done, workers)
        shape = _shape_of(images, packing, database.first_number()) if packing.check_size else None
        with progress.Progress(
            *progress.Progress.get_default_columns(),
            progress.MofNCompleteColumn(),
            console=Console(stderr=True),
            disable=not show_progress,
        ) as bar:
            task = bar.add_task("packing", total=len(images), completed=done)
            for chunk in records:
                bad.note([record for record in chunk if isinstance(record, Bad)])
                good = [record for record in chunk if not isinstance(record, Bad)]
                for record in good if packing.check_size else ():
                    shape = shape or record.shape
                    if record.shape != shape:
                        raise ReadError(
                            f"{record.where}: the image is {record.shape} (channels, height, "
                            f"width), but the first one is {shape}: give --resize, or leave out "
                            "--check-size"
                        )
                database.put([(record.key, record.value) for record in good])
                bar.advance(task, len(chunk))
        database.commit()
        count = database.count()
    if not count:
        shutil.rmtree(part)
        raise ReadError(f"none of the {len(images)} images could be used, such as {images[0].path}")
    part.rename(output)
    (output / RECORD).unlink()  # After that: a complete database has its name, come what may.
    return count


def _begin(part: Path, job: dict[str, Any]) -> None:
    """Make the folder and note what is packed there; refuse the remains of another job."""
    record = part / RECORD
    plain = json.loads(json.dumps(job))
    try:
        part.mkdir(parents=True, exist_ok=True)
        if not record.exists():
            with atomic_write(record) as file:
                file.write(json.dumps(plain).encode())
        found = json.loads(record.read_bytes())
    except (OSError, ValueError) as error:
        raise ArtefactError(f"cannot begin {part}: {error}") from error
    if found != plain:
        other = [name for name in plain if plain[name] != dict(found).get(name)]
        raise ArtefactError(
            f"{part} is the beginning of another database, which differs in {', '.join(other)}: "
            "repeat the command that made it, remove it, or give another name"
        )


class _Record(NamedTuple):
    """A key and a Datum; ``shape`` is (channels, height, width)."""

    key: bytes
    value: bytes
    shape: tuple[int, ...]
    where: str


class _Records(Dataset[Any]):
    """Makes the record of a number, or a Bad."""

    def __init__(self, images: ImageList, packing: Packing) -> None:
        self.images, self.packing = images, packing
        numbers = np.arange(len(images), dtype=np.int32)
        if packing.shuffle:
            numbers = np.random.default_rng(packing.seed).permutation(numbers)
        self.order = numbers

    def __getitem__(self, number: int) -> _Record | Bad:
        index = int(self.order[number])
        sample, name = self.images[index], self.images.names[index]
        where = f"{sample.path} ({sample.line})" if sample.line else f"{sample.path}"
        key = b"%08d_%s" % (number, name)
        if len(key) > LONGEST_KEY:
            return Bad(where, f"its path is longer than the {LONGEST_KEY - 9} bytes of a key")
        try:
            value, shape = make_datum(sample.path, int(sample.label or 0), self.packing)
        except ImageError as error:
            return Bad(where, str(error))
        return _Record(key, value, shape, where)


def make_datum(path: Path, label: int, packing: Packing) -> tuple[bytes, tuple[int, ...]]:
    """The Datum of an image file, and its channels, height and width. Raises ImageError."""
    pixels = read_image(path, 1 if packing.gray else 3)
    if packing.size is not None:
        height, width = packing.size
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    fields: dict[str, Any] = {"label": label, "encoded": packing.encoded is not None}
    if packing.encoded is None:
        channels, height, width = planes.shape
        fields |= {"channels": channels, "height": height, "width": width, "data": planes.tobytes()}
    elif _is_of_type(path, packing.encoded) and packing.size is None and not packing.gray:
        fields["data"] = path.read_bytes()
    else:
        fields["data"] = cv2.imencode(f".{packing.encoded}", pixels)[1].tobytes()
    value: bytes = message_class("Datum")(**fields).SerializeToString(deterministic=True)
    return value, planes.shape


def _is_of_type(path: Path, kind: str) -> bool:
    suffix = path.suffix.lower().lstrip(".")
    return suffix == kind or {suffix, kind} == {"jpg", "jpeg"}


def _shape_of(images: ImageList, packing: Packing, number: int | None) -> tuple[int, ...] | None:
    """The shape of an image that is in the database already."""
    record = None if number is None else _Records(images, packing)[number]
    return record.shape if isinstance(record, _Record) else None


def _records(
    images: ImageList, packing: Packing, start: int, workers: int
) -> Iterator[Sequence[_Record | Bad]]:
    """The records from a number on, in order, in chunks."""
    numbers = range(start, len(images))
    chunks: Iterator[Any] = (
        numbers[first : first + CHUNK] for first in range(0, len(numbers), CHUNK)
    )
    records = load_batches(
        _Records(images, packing), workers=workers, batch_sampler=chunks, collate_fn=list
    )
    try:
        yield from records
    except WorkerError as error:
        raise WorkerError(f"{error}; the same command goes on from here") from None


class _Database:
    """An LMDB that is written in order; what is put is there after ``commit``."""

    def __init__(self, path: Path) -> None:
        try:
            import lmdb
        except ImportError:
            raise ReadError(
                'an LMDB needs the package lmdb: pip install "caffe2torch[lmdb]"'
            ) from None
        self.lmdb, self.path = lmdb, path
        self.waiting: list[tuple[bytes, bytes]] = []
        self.bytes = 0
        try:
            self.environment = lmdb.open(str(path), map_size=1 << 30)
        except lmdb.Error as error:
            raise self._refused(error) from error

    def __enter__(self) -> _Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.environment.close()

    def put(self, items: Sequence[tuple[bytes, bytes]]) -> None:
        """Add records, whose keys follow all others."""
        self.waiting += items
        self.bytes += sum(len(value) for _, value in items)
        if self.bytes >= COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
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

    def count(self) -> int:
        """The number of records."""
        return int(self.environment.stat()["entries"])

    def first_number(self) -> int | None:
        """The number of the first record."""
        with self.environment.begin() as transaction, transaction.cursor() as cursor:
            return int(cursor.key()[:8]) if cursor.first() else None

    def next_number(self) -> int:
        """The number after the last record's."""
        with self.environment.begin() as transaction, transaction.cursor() as cursor:
            return int(cursor.key()[:8]) + 1 if cursor.last() else 0

    def _refused(self, error: Exception) -> ArtefactError:
        return ArtefactError(
            f"cannot write the LMDB {self.path}: {first_line(error)}; when that is corrected, "
            "the same command goes on from here"
        )
