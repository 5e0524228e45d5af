"""What a command hears and shows while it trains: signals, lines and a bar."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from caffe2torch.training.loop import Action


@contextmanager
def signals(sigint: str = "stop", sighup: str = "snapshot") -> Iterator[Callable[[], Action]]:
    """Within the block, Ctrl-C and SIGHUP ask for actions: "stop", "snapshot" or "none".

    A second Ctrl-C, before the first has had its effect, ends the program.
    """
    from caffe2torch.training.loop import Action

    asked: list[Action] = []

    def on(number: int, frame: object) -> None:
        effect = effects[signal.Signals(number)]
        if number == signal.SIGINT and asked[-1:] == [Action.STOP]:
            raise KeyboardInterrupt
        if effect != "none":
            asked.append(Action[effect.upper()])

    effects = {signal.SIGINT: sigint}
    if hasattr(signal, "SIGHUP"):
        effects[signal.SIGHUP] = sighup
    before = {number: signal.signal(number, on) for number in effects}
    try:
        yield lambda: asked.pop(0) if asked else Action.NONE
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar() -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """Where lines go, and what shows how far a run is: a bar, if stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: click.echo(text, err=True), lambda iteration, end: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:

        def write(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        def progress(iteration: int, end: int) -> None:
            task = bar.task_ids[0] if bar.tasks else bar.add_task("")
            bar.update(task, completed=iteration, total=end)

        yield write, progress
