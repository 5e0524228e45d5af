"""The mean of packed images, as Caffe's tool makes it. Follows tools/compute_image_mean.cpp."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich import progress
from rich.console import Console
from torch.utils.data import Dataset

from caffe2torch.data.lmdb import LmdbSource
from caffe2torch.data.prefetch import load_batches
from caffe2torch.errors import ReadError
from caffe2torch.graph import FloatArray
from caffe2torch.images import ImageError
from caffe2torch.io.atomic import atomic_write
from caffe2torch.io.schema import message_class
from squeezenet.data import Bad
from squeezenet.sources import ImageSource

CHUNK = 256
"""Images that a worker process adds up at once."""


class _Sum(NamedTuple):
    first: int
    total: npt.NDArray[np.uint32]


class _Sums(Dataset[Any]):
    """Serves the sum (channels, height, width) of the images that a sampler names, or a Bad."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source

    def planes(self, index: int) -> npt.NDArray[np.uint8]:
        if isinstance(self.source, LmdbSource):
            return self.source.planes(index)
        pixels, _ = self.source.read(index)
        return np.moveaxis(pixels, -1, 0)

    def __getitems__(self, indices: Sequence[int]) -> _Sum | Bad:
        total: npt.NDArray[np.uint32] | None = None
        for index in indices:
            try:
                planes = self.planes(index)
            except ImageError as error:
                return Bad(self.source.where(index), str(error))
            if total is None:
                total = planes.astype(np.uint32)
            elif planes.shape != total.shape:
                return Bad(self.source.where(index), _other_size(planes.shape, total.shape))
            else:
                total += planes
        assert total is not None  # No chunk is empty.
        return _Sum(indices[0], total)


def _other_size(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return (
        f"the image is {found} (channels, height, width), but one before it is {expected}: a mean "
        "needs images of one size, as squeezenet pack --resize makes them"
    )


def mean_image(source: ImageSource, *, workers: int = 0, show_progress: bool = False) -> FloatArray:
    """The mean of all images, float32 (channels, height, width).

    Grey ones count with one channel in an LMDB, as in Caffe, and with three equal ones elsewhere.
    The sums are exact. Caffe adds in float32, which is as exact for up to 65,793 images; of more,
    this is the mean that Caffe's approximates.
    Raises ReadError, which names the image, for one that is damaged or of another size.
    """
    size = len(source)
    chunks: Iterator[Any] = (
        range(first, min(first + CHUNK, size)) for first in range(0, size, CHUNK)
    )
    parts = load_batches(_Sums(source), workers=workers, batch_sampler=chunks)
    total: npt.NDArray[np.uint64] | None = None
    with progress.Progress(console=Console(stderr=True), disable=not show_progress) as bar:
        task = bar.add_task("adding", total=size)
        for part in parts:
            if isinstance(part, _Sum) and total is not None and part.total.shape != total.shape:
                part = Bad(source.where(part.first), _other_size(part.total.shape, total.shape))
            if isinstance(part, Bad):
                raise ReadError(f"{part.where}: {part.reason}")
            total = part.total.astype(np.uint64) if total is None else total + part.total
            bar.advance(task, CHUNK)
    assert total is not None  # A source is not empty.
    mean: FloatArray = total.astype(np.float32) / np.float32(size)
    return mean


def write_mean(mean: FloatArray, path: Path) -> None:
    """Write a mean image as the BlobProto (.binaryproto) that ``mean_file`` names in a net."""
    channels, height, width = mean.shape
    blob = message_class("BlobProto")(num=1, channels=channels, height=height, width=width)
    blob.data.extend(mean.ravel())
    with atomic_write(path) as file:
        file.write(blob.SerializeToString(deterministic=True))
