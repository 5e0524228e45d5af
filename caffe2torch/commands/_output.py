"""Printing and writing that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click

from caffe2torch.errors import printable

LARGE = 64 << 20
"""Bytes of a file whose conversion one waits for."""


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def write_text(path: str, text: str) -> None:
    from caffe2torch.io.atomic import atomic_write

    with atomic_write(path) as file:
        file.write(text.encode())


@contextmanager
def progress_bar(path: str) -> Iterator[Callable[[int], None] | None]:
    """A bar for what is done with a file above 64 MB, if stderr is a terminal; else None."""
    try:
        size = os.path.getsize(path)
    except OSError:
        size = 0
    if size < LARGE or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=size)
        yield lambda count: bar.advance(task, count)
