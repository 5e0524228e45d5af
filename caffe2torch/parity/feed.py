"""Which inputs a check feeds, in batches of bounded size, and a checksum of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.errors import ParityError
from caffe2torch.graph import Array, FloatArray, Graph
from caffe2torch.io.npz import read_npz
from caffe2torch.lower.batch import batch_of
from caffe2torch.parity.inputs import Batch, image_batches, random_batches

if TYPE_CHECKING:
    from hashlib import _Hash

Given = Mapping[str, FloatArray] | str | os.PathLike[str]


@dataclass
class Feed:
    """The inputs of a check. ``kind`` is ``arrays``, ``images`` or ``random``.

    ``path`` is the file or folder they come from. Iterating gives the batches and updates
    ``sha256``, the checksum of all values fed, by input in the net's order.
    """

    graph: Graph
    kind: str
    path: str | None
    source: Iterable[Batch]
    _digest: _Hash = field(default_factory=hashlib.sha256)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.source:
            for declared in self.graph.inputs:
                if declared.name in batch.inputs:
                    values = np.ascontiguousarray(batch.inputs[declared.name], "<f4")
                    self._digest.update(values.data)
            yield batch

    @property
    def sha256(self) -> str:
        """Of the float32 values that were fed so far."""
        return self._digest.hexdigest()


def feed(
    graph: Graph,
    inputs: Given | None = None,
    images: str | os.PathLike[str] | None = None,
    random: int = 1,
) -> Feed:
    """The inputs for ``graph``: given arrays or an .npz of them, else images, else random.

    Raises ParityError where they do not fit the net.
    """
    if inputs is not None and images is not None:
        raise ParityError("give --inputs or --images, not both.")
    if inputs is not None:
        path = None if isinstance(inputs, Mapping) else os.fspath(inputs)
        arrays = inputs if isinstance(inputs, Mapping) else read_npz(inputs, "inputs by blob name")
        return Feed(graph, "arrays", path, [Batch(fitting(graph, arrays))])
    if images is not None:
        return Feed(graph, "images", os.fspath(images), image_batches(graph, images))
    return Feed(graph, "random", None, random_batches(graph, random))


def fitting(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, FloatArray]:
    """``arrays`` as float32 inputs of ``graph``, in its order.

    Raises ParityError unless they are exactly the net's inputs, in the declared shapes or
    in those of another batch size that the net allows.
    """
    wanted = [declared.name for declared in graph.inputs]
    if set(wanted) != set(arrays):
        odd = sorted(set(wanted) ^ set(arrays))[0]
        raise ParityError(
            f"the input {odd!r} is {'missing' if odd in wanted else 'unknown'}; the net's inputs "
            f"are {', '.join(wanted) or 'none'}."
        )
    found = {name: np.require(arrays[name], np.float32, "C") for name in wanted}
    batch = batch_of(graph)
    free = [i.name for i in graph.inputs if batch is not None and i.shape[0] == batch]
    size = found[free[0]].shape[:1] if free and found[free[0]].size else ()
    for declared in graph.inputs:
        shape = found[declared.name].shape
        if shape != (size + declared.shape[1:] if declared.name in free else declared.shape):
            raise ParityError(
                f"the input {declared.name!r} has the shape {shape}; the net declares "
                f"{declared.shape}"
                + (", with one batch size for all." if free else "; see --input-shape.")
            )
    return found
