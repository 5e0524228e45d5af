"""Options that several commands share."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from caffe2torch.graph import Shape


class _ShapeType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    name = "BLOB=N,C,H,W"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Shape]:
        blob, _, sizes = str(value).rpartition("=")
        try:
            shape = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shape = ()
        if not blob or not shape or min(shape) < 1:
            self.fail(f"{value!r} is not of the form {self.name}", param, ctx)
        return blob, shape


class _NumbersType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    name = "B,G,R"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not one number, nor one a channel: {self.name}", param, ctx)


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what input the result takes, and what the net's own one is."""
    for option in reversed(
        (
            click.option(
                "--input",
                type=click.Choice(["rgb01", "imagenet"]),
                help="Make the result take RGB in [0, 1], or that normalised as torchvision does.",
            ),
            click.option(
                "--mean",
                type=_NumbersType(),
                help="The mean that the net's own input subtracts, if its file does not say.",
            ),
            click.option("--scale", type=float, help="The factor after the mean, likewise."),
        )
    ):
        command = option(command)
    return command


def _import_plugins(
    ctx: click.Context, param: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        for name in names:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise click.UsageError(f"cannot import the plugin {name!r}: {error}") from error
    finally:
        sys.path.pop(0)
    return names


plugin_option = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="MODULE",
    is_eager=True,  # What it registers may be the value of another option.
    callback=_import_plugins,
    help="Import a module that registers layers, engines or writers.",
)


def net_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which net to read, the same for every command."""
    for option in reversed(
        (
            click.option("--prototxt", type=click.Path(), help="The net's definition."),
            click.option("--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST"),
            click.option("--level", type=int, default=0, help="The net state's level."),
            click.option("--stage", "stages", multiple=True, help="A stage of the net state."),
            click.option(
                "--input-shape",
                "input_shapes",
                type=_ShapeType(),
                multiple=True,
                help="Replaces the declared shape of an input.",
            ),
            click.option(
                "--allow-missing",
                is_flag=True,
                help="Layers without weights keep the values of their fillers.",
            ),
            click.option("--strict", is_flag=True, help="Refuse weights that no layer uses."),
            plugin_option,
        )
    ):
        command = option(command)
    return command


def read_options(options: dict[str, Any]) -> dict[str, Any]:
    options.pop("plugins")
    options["input_shapes"] = dict(options["input_shapes"])
    return options


def weights_of(model: str, options: dict[str, Any]) -> str | None:
    """The MODEL argument as weights; a prototxt given in their place is the net alone."""
    if options["prototxt"] is None and model.endswith(".prototxt"):
        options["prototxt"] = model
        return None
    return model
