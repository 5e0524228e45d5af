"""What a training run shows and records: progress, losses, lines of the log, scalars."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from torch import Tensor

from caffe2torch.errors import ArtefactError, Caffe2TorchError

LONGEST_LINE = 1 << 16
"""Bytes from the end of a log in which its last line begins."""


class Window:
    """The losses between two lines of the log; read once, so that a GPU need not wait."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.losses: list[Tensor] = []
        self.images = 0

    def add(self, step: tuple[Tensor, int]) -> None:
        """Take in a step's summed loss and its number of images."""
        self.losses.append(step[0])
        self.images += step[1]

    def totals(self) -> Tensor:
        """The summed loss and the number of images, to be summed over processes."""
        return torch.tensor([float(torch.stack(self.losses).sum()), float(self.images)])

    def seconds(self) -> float:
        """The time since the window was opened."""
        return time.perf_counter() - self.start


class Progress:
    """A bar of the steps of a run, with the time that remains; ``show`` False hides it."""

    def __init__(self, steps: int, show: bool) -> None:
        self._bar = Bar(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            disable=not show,
        )
        self._task = self._bar.add_task("training", total=steps)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._bar.stop()

    def advance(self, step: int) -> None:
        """The number of steps that are done."""
        self._bar.update(self._task, completed=step)


def append_line(path: Path, values: dict[str, float]) -> None:
    """Append values to a file of JSON lines; a last line that was cut short is removed first.

    Only a kill or a full disk in the midst of a line leaves such a one.
    """
    line = json.dumps(values).encode() + b"\n"
    try:
        with path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - LONGEST_LINE)
            file.seek(start)
            tail = file.read()
            cut = tail.rfind(b"\n") + 1
            if _is_json(tail[cut:]):
                file.write(b"\n")
            else:
                file.truncate(start + cut)
            file.write(line)
    except OSError as error:
        raise ArtefactError(f"cannot append to {path}: {error.strerror or error}") from error


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def write_scalars(folder: Path, values: dict[str, float]) -> None:
    """Append values to TensorBoard's event files. Needs the extra ``tensorboard``."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise Caffe2TorchError(
            "--tensorboard needs the package tensorboard: install caffe2torch[tensorboard]"
        ) from error
    with SummaryWriter(str(folder)) as writer:
        for name, value in values.items():
            if name != "step":
                writer.add_scalar(name, value, int(values["step"]))
