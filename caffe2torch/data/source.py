"""What a data layer is to a run: a stream of items without end, cut into batches."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import ClassVar, TypeVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from caffe2torch.cuts import CPU, Cuts, CutsToInput
from caffe2torch.data.slots import Slots
from caffe2torch.errors import Caffe2TorchWarning, NetError
from caffe2torch.graph import Array, FloatArray, Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import net_error, unsupported

Raw = tuple[Tensor | Cuts, ...]
"""A batch as the process that reads it hands it over: of each top numbers (float32) or cuts."""


@dataclass(frozen=True)
class Reading:
    """How a run reads: in which phase, which part of the items, and with which random numbers.

    ``folder`` is where the net lies. ``rank`` is the process among ``world``.
    """

    phase: str
    folder: Path | None = None
    seed: int = 0
    rank: int = 0
    world: int = 1

    @property
    def train(self) -> bool:
        """Whether the phase is TRAIN."""
        return self.phase == "TRAIN"

    def positions(self, index: int, batch_size: int) -> range:
        """Where in the stream the items of batch ``index`` stand.

        In TRAIN item i goes to process i % world, so that the processes share out one stream;
        in TEST every process reads everything (Caffe: Skip in data_layer.cpp).
        """
        step, first = (self.world, self.rank) if self.train else (1, 0)
        start = index * batch_size
        return range(start * step + first, (start + batch_size) * step + first, step)

    def random(self, layer: str, *place: int) -> np.random.Generator:
        """Random numbers for one place in a layer's stream, from the seed and the place alone."""
        key = (self.seed % 2**64, crc32(layer.encode()), int(self.train), *place)
        return np.random.default_rng(key)

    def find(self, name: str) -> Path:
        """The path that a net or a list names: from the current folder, as Caffe, or by the net."""
        if self.folder is not None and not os.path.exists(name):
            beside = self.folder / name
            if os.path.exists(beside):
                return beside
        return Path(name)

    def tried(self, name: str) -> str:
        """Where ``find`` has looked, for an error."""
        if self.folder is None or os.path.isabs(name):
            return ""
        return f" (from the current folder, and from the net's, {self.folder})"

    def cannot_read(self, proto: Message, field: str, what: str, error: Exception) -> NetError:
        """An error for a file, ``what`` it is, that ``field`` names; raise what this returns."""
        name = reduce(getattr, field.split("."), proto)
        cause = getattr(error, "strerror", None) or error
        return net_error(proto, f"cannot read {what} {name!r}{self.tried(name)}: {cause}", field)


class Source(ABC):
    """A data layer's batches; batch k is always the same for the same seed.

    ``raw`` reads a batch, in whatever process, and ``finisher`` makes the tops of it on the device
    where the net computes; ``batch`` does both here. Subclasses set ``shapes``.
    """

    shapes: tuple[Shape, ...]
    """Of the tops, in one batch, as the layer's setup gives them."""

    no_effect: ClassVar[Sequence[str]] = ()
    """Fields that Caffe's layer does not read, though its schema has them."""

    workers: ClassVar[int] = 0
    """Processes that read ahead, where no number is given: none, where a batch is made faster than
    it is handed over, or each process would hold all the data."""

    @abstractmethod
    def __init__(self, proto: Message, reading: Reading) -> None:
        """Open what ``proto``, a LayerParameter of the type, names."""

    @abstractmethod
    def raw(self, index: int) -> Raw:
        """Batch 0, 1, 2, ... from the start of the run, on the CPU.

        Batches of images without a crop may have another height and width than ``shapes``.
        """

    def to_input(self, device: torch.device) -> CutsToInput:
        """What makes tops of cuts on ``device``."""
        return CutsToInput(device, None)

    def slots(self, count: int) -> Slots:
        """Memory for the cuts of so many batches; without a place where a batch has none."""
        return Slots(0, (0,), np.uint8)

    def finisher(self, device: torch.device) -> Callable[[Raw], tuple[Tensor, ...]]:
        """What makes the tops of raw batches: float32 tensors on ``device``."""
        to_input = self.to_input(device)

        def finish(raw: Raw) -> tuple[Tensor, ...]:
            return tuple(
                to_input(top) if isinstance(top, Cuts) else top.to(device, non_blocking=True)
                for top in raw
            )

        return finish

    def batch(self, index: int) -> tuple[Tensor, ...]:
        """Batch ``index`` as tops on the CPU."""
        return self.finisher(CPU)(self.raw(index))


class ArraySource(Source):
    """A source whose tops are made as arrays."""

    @abstractmethod
    def arrays(self, index: int) -> tuple[FloatArray, ...]:
        """Batch ``index``, an array for each top."""

    def raw(self, index: int) -> Raw:
        """Batch ``index`` as tensors of the same memory."""
        return tuple(torch.from_numpy(array) for array in self.arrays(index))


S = TypeVar("S", bound=type[Source])

SOURCES: dict[str, type[Source]] = {}
"""By layer type; ``register_source`` adds to them."""


def register_source(layer_type: str) -> Callable[[S], S]:
    """Decorator: make a class the source of data layers of a type."""

    def register(cls: S) -> S:
        SOURCES[layer_type] = cls
        return cls

    return register


def open_source(
    proto: Message,
    phase: str,
    *,
    folder: Path | None = None,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Source:
    """The source of a data layer, given by its LayerParameter, in a net of ``phase``.

    Relative paths count from the current folder, as for Caffe, or else from ``folder``, where the
    net lies. A phase of the layer's own wins over the net's. Raises UnsupportedLayerError for a
    type without a source, NetError for what Caffe refuses, ReadError for data that are missing or
    damaged.
    """
    cls = SOURCES.get(proto.type)
    if cls is None:
        raise unsupported(
            proto,
            f"its data cannot be read; the types whose data can are {', '.join(sorted(SOURCES))}. "
            "Feed its blobs by a layer of the type Input",
            "type",
        )
    if proto.HasField("phase"):
        phase = enum_name(proto, "phase")
    idle = [field for field in cls.no_effect if _is_set(proto, field)]
    if idle:
        warnings.warn(
            f"layer {proto.name!r} ({proto.type}): Caffe does not read {', '.join(idle)}: without "
            "effect",
            Caffe2TorchWarning,
            stacklevel=2,
        )
    return cls(proto, Reading(phase, folder, seed, rank, world))


def _is_set(proto: Message, path: str) -> bool:
    *messages, field = path.split(".")
    for name in messages:
        proto = getattr(proto, name)
    return bool(proto.HasField(field))


def batch_size_of(proto: Message, parameter: str) -> int:
    """``batch_size`` of a layer's parameters. Raises NetError if it is 0, or is not given."""
    size = int(getattr(proto, parameter).batch_size)
    if size < 1:
        raise net_error(proto, "must be positive", f"{parameter}.batch_size")
    return size


def check_tops(proto: Message, least: int, most: int | None) -> None:
    """Raise NetError for a number of tops that Caffe's layer does not make."""
    count = len(proto.top)
    if count < least or (most is not None and count > most):
        asked = (
            f"{least}" if most == least else f"{least} to {most}" if most else f"{least} or more"
        )
        raise net_error(proto, f"it has {count} tops; the type makes {asked}")


def stack(proto: Message, items: Sequence[tuple[Array, str]]) -> Array:
    """One batch of ``items``, each an array (C, H, W) and what names it in errors.

    It is in memory as they are. Raises NetError if their shapes differ.
    """
    first, name = items[0]
    for array, where in items:
        if array.shape != first.shape:
            raise net_error(
                proto,
                f"{where} gives {array.shape} (channels, height, width), and {name} "
                f"{first.shape}: a batch has one shape. Make the images of one size, give a "
                "crop_size, or batches of 1",
            )
    return np.stack([array for array, _ in items])
