"""Images packed once for many readings, into what a Sink makes of them.

Follows tools/convert_imageset.cpp, ReadImageToDatum and CVMatToDatum in src/caffe/util/io.cpp.
"""

from __future__ import annotations

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
from caffe2torch.errors import ReadError, WorkerError
from caffe2torch.images import ImageError, ImageList, read_image
from squeezenet.data import Bad, BadImages
from squeezenet.sinks import Packed, Sink

CHUNK = 32
"""Images that a worker process hands over at once."""


@dataclass(frozen=True)
class Packing:
    """How images are stored; each field is an option of convert_imageset.

    ``size``: the height and width that images are resized to, bilinearly; None: they stay as
    they are. ``encoded``: "jpg" or "png" files instead of raw pixels, or "bmp", which are raw
    pixels behind a header; a file of that type that is not changed is stored as it is.
    ``check_size``: all images must have the channels, height and width of the first. ``seed``
    is that of ``shuffle``.
    """

    size: tuple[int, int] | None = (256, 256)
    encoded: str | None = None
    gray: bool = False
    shuffle: bool = False
    check_size: bool = False
    seed: int = 0


def pack(
    images: ImageList,
    sink: Sink,
    packing: Packing,
    *,
    workers: int,
    bad: BadImages,
    report: Callable[[str], None],
    show_progress: bool = False,
) -> int:
    """Put the images into a sink and return how many are in it.

    They are numbered in the order of the list or in a random one; those that cannot be used are
    left out and keep their numbers. The same call goes on with what an interrupted one has left.
    Raises ArtefactError where nothing can be written.
    """
    with sink:
        done = sink.begin({**asdict(packing), "images": images.digest()})
        if done:
            report(f"going on after {done} of {len(images)} images in {sink.part}")
        records = _Records(images, packing, sink.record)
        shape = None
        if packing.check_size and (first := sink.first_number()) is not None:
            there = records[first]
            shape = there.shape if isinstance(there, _Record) else None
        with progress.Progress(
            *progress.Progress.get_default_columns(),
            progress.MofNCompleteColumn(),
            console=Console(stderr=True),
            disable=not show_progress,
        ) as bar:
            task = bar.add_task("packing", total=len(images), completed=done)
            for chunk in _load(records, done, workers):
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
                sink.put([(record.key, record.value) for record in good])
                bar.advance(task, len(chunk))
        count = sink.finish()
    if not count:
        raise ReadError(f"none of the {len(images)} images could be used, such as {images[0].path}")
    return count


class _Record(NamedTuple):
    """What a sink stores; ``shape`` is (channels, height, width)."""

    key: bytes
    value: bytes
    shape: tuple[int, ...]
    where: str


class _Records(Dataset[Any]):
    """Makes the record of a number, or a Bad."""

    def __init__(
        self, images: ImageList, packing: Packing, record: Callable[[Packed], tuple[bytes, bytes]]
    ) -> None:
        self.images, self.packing, self.record = images, packing, record
        numbers = np.arange(len(images), dtype=np.int32)
        if packing.shuffle:
            numbers = np.random.default_rng(packing.seed).permutation(numbers)
        self.order = numbers

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> _Record | Bad:
        index = int(self.order[number])
        sample, name = self.images[index], self.images.names[index]
        where = f"{sample.path} ({sample.line})" if sample.line else f"{sample.path}"
        try:
            data, shape = _read(sample.path, self.packing, where)
            image = Packed(number, name, int(sample.label or 0), data, self.packing.encoded, shape)
            return _Record(*self.record(image), shape, where)
        except ImageError as error:
            return Bad(where, str(error))


def _read(path: Path, packing: Packing, where: str) -> tuple[bytes, tuple[int, ...]]:
    """The bytes to store of an image file, and its channels, height and width."""
    pixels = read_image(path, 1 if packing.gray else 3, where)
    if packing.size is not None:
        height, width = packing.size
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    if packing.encoded is None:
        return planes.tobytes(), planes.shape
    if _is_of_type(path, packing.encoded) and packing.size is None and not packing.gray:
        return path.read_bytes(), planes.shape
    return cv2.imencode(f".{packing.encoded}", pixels)[1].tobytes(), planes.shape


def _is_of_type(path: Path, kind: str) -> bool:
    suffix = path.suffix.lower().lstrip(".")
    return suffix == kind or {suffix, kind} == {"jpg", "jpeg"}


def _load(records: _Records, start: int, workers: int) -> Iterator[Sequence[_Record | Bad]]:
    """The records from a number on, in order, in chunks."""
    numbers = range(start, len(records))
    chunks: Iterator[Any] = (
        numbers[first : first + CHUNK] for first in range(0, len(numbers), CHUNK)
    )
    loaded = load_batches(records, workers=workers, batch_sampler=chunks)
    try:
        yield from loaded
    except WorkerError as error:
        raise WorkerError(f"{error}; the same command goes on from here") from None
