"""The order in which training draws its samples: seeded, sharded, and resumable anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Draw = tuple[int, int]
"""An epoch and an index in the data set."""


class TrainSampler:
    """Batches of an endless stream: one permutation of the data set after another.

    Batch k of the whole job is the stream from k * batch_size on, and every process takes
    its part of it, so the samples of a step do not depend on the number of processes. No
    batch is short: one that reaches the end of an epoch goes on in the next. The stream is
    a function of the seed, so a position in it is all that resuming needs.
    """

    def __init__(
        self, size: int, batch_size: int, *, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        if batch_size % world:
            raise ValueError(f"a batch of {batch_size} cannot be split among {world} processes")
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.share = batch_size // world
        self.offset = rank * self.share
        self.start = 0

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = -1, np.empty(0, np.int64)
        first = self.start * self.batch_size + self.offset
        while True:
            batch = []
            for position in range(first, first + self.share):
                if position // self.size != epoch:
                    epoch = position // self.size
                    order = permutation(self.size, self.seed, epoch)
                batch.append((epoch, int(order[position % self.size])))
            yield batch
            first += self.batch_size


def permutation(size: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of the samples in one epoch."""
    return np.random.default_rng((seed, epoch)).permutation(size)


class EvalSampler:
    """Batches of every index once, shared out among the processes without padding."""

    def __init__(self, size: int, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, size, world)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[Draw]]:
        for first in range(0, len(self.indices), self.batch_size):
            yield [(0, index) for index in self.indices[first : first + self.batch_size]]

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)
