"""A progress bar on a terminal, with the time that remains; nothing elsewhere."""

from __future__ import annotations

from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """The steps of a run. ``show`` False makes it silent."""

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
