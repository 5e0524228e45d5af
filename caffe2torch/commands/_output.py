"""Printing and writing that several commands share."""

from __future__ import annotations

from collections.abc import Sequence

import click

from caffe2torch.errors import printable


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
