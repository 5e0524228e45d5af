"""A data layer's batches, and the registry of what makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import unsupported

if TYPE_CHECKING:
    from torch import Tensor


class Source(Protocol):
    """A data layer's batches: a stream without end, cut into batches.

    ``shapes`` are those of the layer's tops, for one batch.
    """

    shapes: tuple[Shape, ...]

    def batch(self, index: int) -> tuple[Tensor, ...]:
        """Batch ``index`` (0, 1, ...) from the start of the run, one float32 tensor a top.

        It is always the same for the same seed.
        """


OpenSource = Callable[..., Source]
SOURCES: dict[str, OpenSource] = {}
"""By layer type; ``register_source`` adds to them."""


def register_source(type: str) -> Callable[[OpenSource], OpenSource]:
    """Decorator: make a class or function the source of data layers of a type.

    It is called as ``open_source`` is.
    """

    def register(make: OpenSource) -> OpenSource:
        SOURCES[type] = make
        return make

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
    """The source of a data layer's LayerParameter.

    ``phase`` decides whether crops and mirrors are random. Relative paths are looked for from
    the current folder, as Caffe does, and then from ``folder``. In phase TRAIN, item i of the
    stream is given to the process i % ``world``; every process reads all of phase TEST.
    Raises UnsupportedLayerError for a type of which nothing can be read here.
    """
    if proto.type not in SOURCES:
        raise unsupported(
            proto,
            f"the data of a layer of type {proto.type!r} cannot be read here; types of which "
            f"they can are {', '.join(sorted(SOURCES))}.",
            "type",
        )
    return SOURCES[proto.type](proto, phase, folder=folder, seed=seed, rank=rank, world=world)
