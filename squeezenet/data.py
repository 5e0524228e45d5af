"""The order of labelled images, and batches of them from worker processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from caffe2torch.data import prefetch
from caffe2torch.data.slots import HELD, Array, Slots
from caffe2torch.errors import Caffe2TorchError, ReadError
from caffe2torch.images import (
    ImageError,
)
from squeezenet.decode import DeviceDecoder, pack
from squeezenet.preprocess import Cut, Transform
from squeezenet.sources import ImageSource


class Bad(NamedTuple):
    """An image that could not be used, and why."""

    where: str
    reason: str

    def __str__(self) -> str:
        """Both, as a line of text: most reasons say where."""
        return self.reason if self.where in self.reason else f"{self.where}: {self.reason}"


class Batch(NamedTuple):
    """Cuts of images (N, H, W, 3), labels (N), indices in the source, and what was left out.

    The images are uint8, or float32 where the transform changes colours; ``places`` (N, 3) has
    the rest of each Cut: its place's top and left, mirrored. ``squeezenet.feed`` makes the net's
    input of them. Where images are decoded later, ``images`` and further columns of ``places`` are
    those of ``squeezenet.decode.pack``.
    """

    images: Tensor
    places: Tensor
    labels: Tensor
    indices: Tensor
    bad: list[Bad]


class ImageDataset(Dataset[Any]):
    """Serves the sample that a draw (epoch, index) names, cut as the transform says.

    The transform's random numbers depend on the seed and the draw alone, so the order and
    the number of workers change nothing. Without a seed it is the test transform. A bad
    image is served as a Bad.
    """

    def __init__(self, source: ImageSource, transform: Transform, *, seed: int | None) -> None:
        self.source = source
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> Any:
        epoch, index = draw
        try:
            image, label = self.source.read(index, self.transform.decoder)
            rng = None if self.seed is None else np.random.default_rng((self.seed, epoch, index))
            return self.transform.cut(image, rng), label, index
        except ImageError as error:
            return Bad(self.source.where(index), str(error))

    def batch(self, draws: Sequence[Draw], rows: Array | None = None, threads: int = 1) -> Batch:
        """The samples of some draws, their cuts written to ``rows`` by so many threads.

        ``rows`` has the ``form`` of them; None: memory is made for it. Bad images are set apart
        and not replaced, so that a batch may be short.
        """
        later: list[Cut | None] = [None] * len(draws)
        if rows is None:
            shape, dtype = self.form(len(draws))
            rows = np.empty(shape, dtype)
        numbers = np.empty((len(draws), 5), np.int64)
        bad: dict[int, Bad] = {}
        left = iter(range(len(draws)))

        def fill(_: int) -> None:
            for row in left:  # Each thread takes the next one, as images differ in size.
                item = self[draws[row]]
                if isinstance(item, Bad):
                    bad[row] = item
                    continue
                cut, label, index = item
                if self.transform.on_device:
                    later[row] = cut
                else:
                    rows[row] = cut.pixels
                numbers[row] = *cut.window.place, cut.mirrored, label, index

        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, range(threads)))  # Raises what one of them has raised.
        else:
            fill(0)
        if bad:
            good = [row for row in range(len(draws)) if row not in bad]
            rows[: len(good)], numbers = rows[good], numbers[good]
        places, labels, indices = (
            torch.from_numpy(numbers[:, columns].copy()) for columns in (slice(3), 3, 4)
        )
        images = torch.from_numpy(rows[: len(numbers)])
        if self.transform.on_device:
            images, windows = pack([cut for cut in later if cut])
            places = torch.cat([places, windows], 1)
        return Batch(images, places, labels, indices, [bad[row] for row in sorted(bad)])

    def form(self, size: int) -> tuple[tuple[int, ...], type[np.generic]]:
        """The shape and the type of the cuts of so many images."""
        changes_colours = self.seed is not None and self.transform.jitter
        crop = self.transform.crop
        return (size, crop, crop, 3), np.float32 if changes_colours else np.uint8


class BadImages:
    """Counts bad images, each once, and reports or refuses them as ``--on-bad-image`` says."""

    def __init__(self, action: str, report: Callable[[str], None]) -> None:
        self.action = action
        self.report = report
        self.seen: dict[str, str] = {}

    def note(self, bad: Sequence[Bad]) -> None:
        """Report each image that was not seen before; raise if bad images are to fail."""
        for image in bad:
            if self.action == "fail":
                raise BadImageError(f"{image}; --on-bad-image skip leaves such images out")
            if image.where not in self.seen:
                self.seen[image.where] = image.reason
                self.report(f"bad image, skipped: {image}")

    def __len__(self) -> int:
        return len(self.seen)


class BadImageError(Caffe2TorchError):
    """An image cannot be used, and none may be left out."""


CPU = torch.device("cpu")
Draw = tuple[int, int]
"""An epoch and an index in the data set."""


def train_batches(
    size: int, batch_size: int, *, seed: int, rank: int = 0, world: int = 1, start: int = 0
) -> Iterator[list[Draw]]:
    """Batches of an endless stream: one permutation of the data set after another.

    The batches of the whole job are the stream, cut into pieces of ``batch_size``, and every
    process takes its part of each, so the samples of a step do not depend on the number of
    processes. The parts differ by one image where ``batch_size`` is not a multiple of that number,
    and some are empty where it is smaller. No batch is short: one that reaches the end of an epoch
    goes on in the next. The stream is a function of the seed, so a position in it, the ``start``
    images that were taken before, is all that resuming needs, with whatever processes.
    """
    begin, end = (batch_size * place // world for place in (rank, rank + 1))
    epoch, order = -1, np.empty(0, np.int64)
    for first in itertools.count(start, batch_size):
        batch = []
        for position in range(first + begin, first + end):
            if position // size != epoch:
                epoch = position // size
                order = np.random.default_rng((seed, epoch)).permutation(size)
            batch.append((epoch, int(order[position % size])))
        yield batch


def eval_batches(
    size: int, batch_size: int, *, rank: int = 0, world: int = 1
) -> Iterator[list[Draw]]:
    """Batches of every index once, shared out among the processes without padding."""
    indices = range(rank, size, world)
    for first in range(0, len(indices), batch_size):
        yield [(0, index) for index in indices[first : first + batch_size]]


def load_batches(
    dataset: ImageDataset,
    batches: Iterable[list[Draw]],
    *,
    workers: int,
    device: torch.device = CPU,
) -> Iterator[Batch]:
    """Load the batches that a sampler names with ``workers`` threads (0: in this one).

    They are those of ``processes_of(workers)`` processes; the batches depend on neither. For a GPU
    they lie in pinned memory. Images that the transform leaves to the device are decoded on it.
    """
    processes, batches = processes_of(workers), iter(batches)
    first, on_device = next(batches, []), dataset.transform.on_device
    decoder = DeviceDecoder(device, dataset.transform.crop) if on_device else None
    slots = Slots(
        AHEAD * processes + HELD if processes and not on_device else 0, *dataset.form(len(first))
    )
    loaded: Iterator[Batch] = prefetch.load_batches(
        _Batches(dataset, workers, slots),
        workers=processes,
        ahead=AHEAD,
        sampler=(
            (draws, slots.take(len(draws)))
            for draws in itertools.chain([first] if first else [], batches)
        ),
        batch_size=None,
        pin_memory=device.type == "cuda" and not on_device,
    )
    return loaded if decoder is None else map(partial(_decoded, dataset, decoder), loaded)


def _decoded(dataset: ImageDataset, decoder: DeviceDecoder, batch: Batch) -> Batch:
    """A batch whose images were left to the device."""

    def where(row: int) -> str:
        return dataset.source.where(int(batch.indices[row]))

    images, reasons = decoder(batch.images, batch.places[:, 3:], where)
    bad = [Bad(where(row), reason) for row, reason in reasons.items()]
    batch = batch._replace(images=images, places=batch.places[:, :3], bad=batch.bad + bad)
    if not bad:
        return batch
    good = [row for row in range(len(images)) if row not in reasons]
    images, places, labels, indices = (tensor[good] for tensor in batch[:4])
    return Batch(images, places, labels, indices, batch.bad)


AHEAD = 2
"""Batches that a process makes before they are asked for."""
PROCESSES = 2
"""As many workers are processes of their own; of more, THREADS share one."""
THREADS = 8
"""They take turns in Python, where an image spends a twentieth of its time."""


def processes_of(workers: int) -> int:
    """In how many processes so many workers are.

    A process has 14 MB of its own and holds finished batches; a thread, the image in its hands.
    """
    return max(min(workers, PROCESSES), -(-workers // THREADS))


class _Batches(Dataset[Batch]):
    """The batches of a data set as items, made by what a process has of the workers."""

    def __init__(self, dataset: ImageDataset, workers: int, slots: Slots) -> None:
        self.dataset, self.workers, self.slots = dataset, workers, slots

    def __getitem__(self, asked: tuple[Sequence[Draw], int | None]) -> Batch:
        draws, slot = asked
        info = get_worker_info()
        share = len(range(info.id, self.workers, info.num_workers)) if info else 1
        if slot is None:
            return self.dataset.batch(draws, threads=share)
        batch = self.dataset.batch(draws, self.slots.array(slot, len(draws)), share)
        return batch._replace(images=self.slots.sent(slot, len(batch.labels)))


def checked(
    batches: Iterable[Batch], dataset: ImageDataset, num_classes: int, bad: BadImages
) -> Iterator[Batch]:
    """The batches, their bad images noted; a label that the net has no class for is an error."""
    for batch in batches:
        bad.note(batch.bad)
        if len(strange := (batch.labels >= num_classes).nonzero()):  # On the CPU: nothing waits.
            first = int(strange[0])
            raise ReadError(
                f"{dataset.source.where(int(batch.indices[first]))}: there is no label "
                f"{int(batch.labels[first])} among {num_classes} classes: correct the list or set "
                "--num-classes"
            )
        yield batch
