"""The commands, one a file, and what command lines of other packages share with them."""

from __future__ import annotations

import errno
import math
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import click

from caffe2torch.errors import NO_MEMORY, Caffe2TorchError, one_line
from caffe2torch.io.atomic import check_folder, check_writable


class Commands(click.Group):
    """Ends every error that a user can cause as one line on stderr, and warns in one line."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run the command line; a process that torchrun started ends here, with the exit code."""
        try:
            return super().main(*arguments, **options)
        except SystemExit as end:
            if os.environ.get("WORLD_SIZE", "1") != "1":
                # Python's way out now and then aborts a process whose work is done, in the threads
                # that torch (2.13) leaves behind a process group: "terminate called without an
                # active exception". torchrun would take that for a failure.
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An error's exit code is its own."""
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning  # type: ignore[assignment]  # same calls
            try:
                return super().invoke(ctx)
            except Caffe2TorchError as error:
                click.echo(f"Error: {one_line(str(error))}", err=True)
                ctx.exit(error.exit_code)
            except OSError as error:  # Such as a full disk below stdout.
                if error.errno == errno.EPIPE:
                    raise  # Click ends the process as a pipe's reader expects.
                name = f"{error.filename}: " if error.filename else ""
                click.echo(f"Error: {one_line(name + (error.strerror or str(error)))}", err=True)
                ctx.exit(Caffe2TorchError.exit_code)
            except MemoryError:
                click.echo(f"Error: {NO_MEMORY}", err=True)
                ctx.exit(Caffe2TorchError.exit_code)


def _print_warning(message: Warning | str, *_: Any) -> None:
    click.echo(f"Warning: {one_line(str(message))}", err=True)


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN, which no bound of click's keeps out, and infinity."""

    def convert(self, *arguments: Any) -> Any:
        """The number."""
        number: float = super().convert(*arguments)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", *arguments[1:])
        return number


class OutputFile(click.Path):
    """A file that comes at the end of long work, and is refused at once if it cannot be written."""

    def convert(self, *arguments: Any) -> Any:
        """The path."""
        path: Any = super().convert(*arguments)
        check_writable(path)
        return path


class OutputFolder(click.Path):
    """The same of a folder, which the command makes where it is not there."""

    def convert(self, *arguments: Any) -> Any:
        """The path."""
        path: Any = super().convert(*arguments)
        check_folder(path)
        return path


class RegisteredChoice(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """The names of a registry, asked for when they are needed: plugins may add some."""

    case_sensitive = True

    def __init__(self, names: Callable[[], Sequence[str]]) -> None:
        self._names = names

    @property
    def choices(self) -> Sequence[str]:  # type: ignore[override]  # an attribute there
        """The names as they are now."""
        return tuple(self._names())


def engine_choice(*beside: str) -> RegisteredChoice:
    """The registered engines and ``beside``; their files are imported when it is looked at."""

    def names() -> Sequence[str]:
        from caffe2torch.engines import engine_names

        return *engine_names(), *beside

    return RegisteredChoice(names)
