"""What a training run says: Caffe's log lines, a file of JSON lines, TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from caffe2torch.errors import ArtefactError, Caffe2TorchError

LONGEST_LINE = 1 << 16
"""Bytes from the end of a log in which its last line begins."""


class Records:
    """The numbers of a run, as a file of JSON lines and as a folder of TensorBoard's event files.

    Either may be None. The file ``json_path`` is appended to, or made.
    """

    def __init__(self, json_path: Path | None = None, tensorboard: Path | None = None) -> None:
        self._json, self._folder = json_path, tensorboard
        self._open = None if tensorboard is None else scalar_writer()
        self._writer: Any = None

    def write(self, iteration: int, line: dict[str, Any], scalars: dict[str, float]) -> None:
        """Append the JSON object ``line``, and the ``scalars`` of an iteration for TensorBoard."""
        if self._json is not None:
            append_line(self._json, line)
        if self._open is not None:
            self._writer = self._writer or self._open(str(self._folder))
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, iteration)
            self._writer.flush()  # A run that is killed leaves what it has said.

    def close(self) -> None:
        """Finish the files."""
        if self._writer is not None:
            self._writer.close()


class Log:
    """Where a run reports to.

    ``write`` gets each line of text, in the form of glog, which Caffe's log parsers read:
    ``I1128 21:00:00.123456  4321 solver.cpp:239] Iteration 100, lr = 0.01``. ``json_path`` gets a
    JSON object a line, ``tensorboard`` is a folder for its event files.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        json_path: Path | None = None,
        tensorboard: Path | None = None,
    ) -> None:
        self._write, self._records = write, Records(json_path, tensorboard)
        self.close = self._records.close

    def line(self, text: str, place: str = "solver.cpp:0") -> None:
        """A line of text, from a place in Caffe's source that parsers may look for."""
        now = datetime.now()
        self._write(f"I{now:%m%d %H:%M:%S.%f} {os.getpid():5d} {place}] {text}")

    def record(
        self, iteration: int, kind: str, values: dict[str, float], outputs: dict[str, float]
    ) -> None:
        """Numbers of an iteration, and the values of the net's outputs by name.

        ``kind`` is ``train``, or ``test 0`` for the first test net.
        """
        line = {"iteration": iteration, "kind": kind, **values, "outputs": outputs}
        scalars = {f"{kind}/{name}": value for name, value in values.items()}
        scalars |= {f"{kind}/outputs/{name}": value for name, value in outputs.items()}
        self._records.write(iteration, line, scalars)


def number(value: float) -> str:
    """A number as C++ prints it: six significant digits."""
    return f"{value:g}"


def score_line(kind: str, index: int, name: str, value: float, weight: float) -> str:
    """A line for one value of an output blob; ``kind`` is Train or Test."""
    return f"    {kind} net output #{index}: {name} = {number(value)}{loss_part(value, weight)}"


def loss_part(value: float, weight: float) -> str:
    """What follows the value of an output that counts into the loss."""
    return f" (* {number(weight)} = {number(weight * value)} loss)" if weight else ""


def named_values(scores: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Scores by name; an output of several values has them as ``name[0]``, ``name[1]``, ..."""
    names = [name for name, _ in scores]
    result: dict[str, float] = {}
    for name, value in scores:
        count = sum(key == name or key.startswith(f"{name}[") for key in result)
        result[name if names.count(name) == 1 else f"{name}[{count}]"] = value
    return result


def append_line(path: Path, values: dict[str, Any]) -> None:
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


def scalar_writer() -> Any:
    """The class that writes TensorBoard's event files. Needs the extra ``tensorboard``."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise Caffe2TorchError(
            "--tensorboard needs the package tensorboard: install caffe2torch[tensorboard]"
        ) from error
    return SummaryWriter
