"""Batches made ahead of their use, in processes of their own."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe2torch.cuts import CPU, Cuts
from caffe2torch.data.slots import HELD, Slots
from caffe2torch.data.source import Raw, Source
from caffe2torch.errors import Caffe2TorchError, WorkerError

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from types import FrameType


NICENESS = 10
"""By how much workers give way to the process that computes, where both want a processor.

On a CPU each of its threads waits for the others at the end of an operation: where a worker holds
one of them up, all are. At 10 two workers cost SqueezeNet's training on two cores what their own
work does, and as much again without.
"""


class Prefetched(Iterator[Raw]):
    """The raw batches of a source from ``start`` on, in order.

    ``workers`` processes, by default as many as the source asks for and there are cores for, make
    ``ahead`` batches or more before they are asked for; without any they are made here. The batches
    are the same in either case. What a source raises is raised here, when its batch is asked for.
    Where ``device``, to which they go, is a GPU, the batches of processes lie in pinned memory.
    ``close`` ends the processes, as does the end of this one. Raises WorkerError where memory that
    they share is short.
    """

    def __init__(
        self,
        source: Source,
        start: int = 0,
        workers: int | None = None,
        ahead: int = 4,
        device: torch.device = CPU,
    ) -> None:
        self._source, self._next = source, start
        self._batches: Generator[Any, None, None] | None = None
        if workers is None:
            workers = min(source.workers, _cores())
        if workers:
            each = max(1, -(-ahead // workers))
            slots = source.slots(each * workers + HELD)
            self._batches = load_batches(
                _Batches(source, slots),
                workers=workers,
                ahead=each,
                sampler=((index, slots.take(1)) for index in itertools.count(start)),
                batch_size=None,
                pin_memory=device.type == "cuda",
            )

    def __next__(self) -> Raw:
        """The next batch; there is always one."""
        if self._batches is None:
            raw = self._source.raw(self._next)
        else:
            sent = next(self._batches)
            if isinstance(sent, Caffe2TorchError):
                self.close()
                raise sent
            (first, *others), filled = sent
            if isinstance(first, Cuts) and len(filled):
                first = first._replace(pixels=filled)
            raw = (first, *others)
        self._next += 1
        return raw

    def close(self) -> None:
        """End the processes; the batches that follow are made here."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS and Windows.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Batches:
    """A source as a data set of torch's, whose errors are handed over whole.

    An item is a batch and a tensor: where a slot has the pixels of the batch's cuts, the tensor is
    the slot, and otherwise it has no rows.
    """

    def __init__(self, source: Source, slots: Slots) -> None:
        self.source, self.slots = source, slots

    def __getitem__(self, asked: tuple[int, int | None]) -> tuple[Raw, Tensor] | Caffe2TorchError:
        index, slot = asked
        try:
            raw = self.source.raw(index)
        except Caffe2TorchError as error:
            return error
        if slot is None:
            return raw, torch.empty(0)
        images = raw[0]
        if not isinstance(images, Cuts) or not self.slots.fill(slot, images.pixels.numpy()):
            return raw, self.slots.sent(slot, 0)  # Which gives the slot back.
        cuts = images._replace(pixels=torch.empty(0))
        return (cuts, *raw[1:]), self.slots.sent(slot, len(images.pixels))


def load_batches(
    dataset: Any, *, workers: int, ahead: int = 2, **options: Any
) -> Generator[Any, None, None]:
    """Items of a data set by a DataLoader whose ``workers`` processes (0: none) have a thread each.

    Each makes ``ahead`` batches before they are asked for; ``options`` are those of torch's class,
    and what the data set gives is not collated.
    The processes end with this one, and where the result is closed. Raises WorkerError where one
    of them ends before.
    """
    import cv2
    from torch.utils.data import DataLoader

    if workers:
        # Here and not in the workers: a fork has OpenCV's pool without its threads, and to change
        # their number there waits for them forever.
        cv2.setNumThreads(1)
    loader = DataLoader(
        dataset,
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        worker_init_fn=_begin,
        # A generator of its own keeps the loader from drawing on the training's random state.
        generator=torch.Generator(),
        collate_fn=_as_it_is,
        **options,
    )
    if not workers:
        return (batch for batch in loader)
    # torch raises the end of a worker wherever the program happens to be: not so this one.
    with _child_signals(lambda: None):
        batches = iter(loader)
    return _by_workers(batches)


def _as_it_is(item: Any) -> Any:
    return item


def _by_workers(batches: Any) -> Generator[Any, None, None]:
    try:
        while True:
            yield _next(batches)
    except StopIteration:
        pass
    finally:
        # What ends them when nothing refers to the iterator, but an error's traceback does.
        batches._shutdown_workers()


def _next(batches: Any) -> Any:
    check = partial(_check, batches._workers)
    try:
        # Without the signal, half a message would be waited for forever.
        with _child_signals(check):
            check()
            return next(batches)
    except (RuntimeError, OSError, EOFError):
        # What is read from a process that ends breaks off a little before its end.
        check(wait=1)
        raise


def _check(workers: Sequence[BaseProcess], wait: float = 0) -> None:
    """Raise WorkerError if one of the processes has failed, or does so within ``wait`` seconds."""
    if wait:
        ended = multiprocessing.connection.wait([worker.sentinel for worker in workers], wait)
        for worker in workers:
            worker.join(wait if worker.sentinel in ended else 0)
    for worker in workers:
        if code := worker.exitcode:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
            )
            raise WorkerError(
                f"process {worker.pid}, which reads the data, {how} before its work was done; "
                "where memory ran out, take fewer workers or smaller batches"
            )


@contextmanager
def _child_signals(check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` when a child process ends; have the former handler again afterwards."""
    here = threading.current_thread() is threading.main_thread()
    former = signal.getsignal(signal.SIGCHLD) if here and hasattr(signal, "SIGCHLD") else None
    if former is None:  # Nothing can be set here, or nothing that was not set by Python.
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        check()
        if callable(former):
            former(number, frame)

    try:
        signal.signal(signal.SIGCHLD, handler)
        yield
    finally:
        signal.signal(signal.SIGCHLD, former)


def _begin(worker: int) -> None:
    """Give way to the process that trains, leave a terminal's signals to it, and end with it."""
    # The process that trains may want to finish its step, or to write a snapshot.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # Not on Windows.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if hasattr(os, "nice"):  # Not on Windows.
        os.nice(NICENESS)
    # The collector would write to each object that this process shares with its parent.
    gc.freeze()
    # torch asks for the parent between batches alone, and a large one is written until it is read.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
