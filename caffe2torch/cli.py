"""The command line: a thin layer on the Python API. Each command is a file in commands/."""

from __future__ import annotations

import importlib
from typing import Any

import click

from caffe2torch import extensions
from caffe2torch.commands import Commands

COMMANDS = ("convert", "parity", "quantize", "train", "test", "time", "inspect", "layers")
"""Our own. Other packages may add some (``caffe2torch.extensions``)."""


class _Group(Commands):
    """Imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *extensions.names(extensions.COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = importlib.import_module(f"caffe2torch.commands.{cmd_name}")
            command: click.Command = getattr(module, cmd_name)
            return command
        return _Added(cmd_name) if cmd_name in extensions.names(extensions.COMMANDS) else None


class _Added(click.Command):
    """A command of another package, which is imported when the command runs or is asked for help.

    Packages may import whatever they like, and ``caffe2torch --help`` stays fast.
    """

    def __init__(self, name: str) -> None:
        package = extensions.module_of(extensions.COMMANDS, name).partition(".")[0]
        super().__init__(name, short_help=f"Of {package}: see caffe2torch {name} --help.")

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        command = extensions.load(extensions.COMMANDS, str(self.name))
        return command.make_context(info_name, args, *more, **extra)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from caffe2torch.parity.provenance import LIBRARIES, versions

    found = versions()
    missing = [name for name in LIBRARIES if name not in found and not name.startswith("opencv")]
    if not any(name.startswith("opencv") for name in found):
        missing.append("opencv")
    click.echo(f"caffe2torch {found.pop('caffe2torch')}")
    for name, number in found.items():
        click.echo(f"  {name} {number}")
    for name in missing:
        click.echo(f"  {name} not installed")
    ctx.exit()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the versions that matter and exit.",
)
def main() -> None:
    """Turn Caffe models into PyTorch and ONNX, with proof."""
