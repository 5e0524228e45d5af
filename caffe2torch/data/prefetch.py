"""Batches made ahead of their use, in processes of their own."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from caffe2torch.data.source import Source
from caffe2torch.errors import Caffe2TorchError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader


class Prefetched(Iterator[tuple["Tensor", ...]]):
    """The batches of a source from ``start`` on, in order.

    ``workers`` processes make ``ahead`` batches or more before they are asked for; without any
    they are made here. The batches are the same in either case. What a source raises is raised
    here, when its batch is asked for. ``close`` ends the processes, as does the end of this one.
    """

    def __init__(self, source: Source, start: int = 0, workers: int = 0, ahead: int = 4) -> None:
        self._batches = self._in_processes(source, start, workers, ahead) if workers else None
        self._source, self._next = source, start

    @staticmethod
    def _in_processes(source: Source, start: int, workers: int, ahead: int) -> Any:
        loader = make_loader(
            _Batches(source),
            workers=workers,
            ahead=max(1, -(-ahead // workers)),
            sampler=itertools.count(start),
            batch_size=None,
        )
        return iter(loader)

    def __next__(self) -> tuple[Tensor, ...]:
        """The next batch; there is always one."""
        if self._batches is None:
            batch = self._source.batch(self._next)
        else:
            batch = self._from_processes(self._batches)
            if isinstance(batch, Caffe2TorchError):
                self.close()
                raise batch
        self._next += 1
        return tuple(batch)

    def _from_processes(self, batches: Any) -> Any:
        try:
            return next(batches)
        except (RuntimeError, ConnectionError) as error:
            if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
                raise
            self.close()
            raise Caffe2TorchError(
                f"a process that reads the data ended before its work ({error}); take fewer "
                "processes, or smaller batches"
            ) from None

    def close(self) -> None:
        """End the processes; the batches that follow are made here."""
        if self._batches is not None:
            # What ends them when nothing refers to the iterator, but an error's traceback does.
            self._batches._shutdown_workers()
            self._batches = None


class _Batches:
    """A source as a data set of torch's, whose errors are handed over whole."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, index: int) -> tuple[Tensor, ...] | Caffe2TorchError:
        try:
            return self.source.batch(index)
        except Caffe2TorchError as error:
            return error


def make_loader(dataset: Any, *, workers: int, ahead: int = 2, **options: Any) -> DataLoader[Any]:
    """A DataLoader whose ``workers`` processes (0: none) end with this one, with a thread each.

    Each makes ``ahead`` batches before they are asked for; ``options`` are those of torch's class.
    """
    import cv2
    import torch
    from torch.utils.data import DataLoader

    if workers:
        # Here and not in the workers: a fork has OpenCV's pool without its threads, and to change
        # their number there waits for them forever.
        cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        worker_init_fn=partial(_begin, os.getpid()),
        # A generator of its own keeps the loader from drawing on the training's random state.
        generator=torch.Generator(),
        **options,
    )


def _begin(trainer: int, worker: int) -> None:
    """Leave Ctrl-C to the process that trains, which may want to finish its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The collector would write to each object that this process shares with its parent.
    gc.freeze()
    # torch ends a worker whose parent changes, and would not know of a change before now.
    if multiprocessing.get_start_method() == "fork" and os.getppid() != trainer:
        os._exit(1)
