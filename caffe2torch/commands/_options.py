"""Options that several commands share."""

from __future__ import annotations

import importlib
import math
import sys
import traceback
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from caffe2torch.graph import Shape

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

SHAPE = "BLOB=N,C,H,W"
NUMBERS = "B,G,R"


def _shape(value: str) -> tuple[str, Shape]:
    blob, _, sizes = value.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not blob or not shape or min(shape) < 1:
        raise click.BadParameter(f"{value!r} is not of the form {SHAPE}")
    return blob, shape


def _names(value: str) -> tuple[str, ...]:
    return tuple(filter(None, value.split(",")))


def numbers(value: str) -> tuple[float, ...]:
    """One number, or one a channel."""
    try:
        parts = tuple(float(part) for part in value.split(","))
    except ValueError:
        parts = (math.nan,)
    if not all(map(math.isfinite, parts)):
        raise click.BadParameter(f"{value!r} is not one number, nor one a channel: {NUMBERS}")
    return parts


def _import_plugins(
    ctx: click.Context, param: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        for name in names:
            if not all(part.isidentifier() for part in name.split(".")):
                raise click.UsageError(
                    f"the plugin {name!r} is not the name of a module, such as my_layers"
                )
            try:
                importlib.import_module(name)
            except (ImportError, SyntaxError) as error:
                raise click.UsageError(f"cannot import the plugin {name!r}: {error}") from error
            except (Exception, SystemExit) as error:  # It is a user's program.
                last = traceback.extract_tb(error.__traceback__)[-1]
                raise click.UsageError(
                    f"the plugin {name!r} fails when it is imported: {type(error).__name__}: "
                    f"{error} ({last.filename}:{last.lineno})"
                ) from error
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


def _together(*options: Option) -> Option:
    """One decorator for several, listed in the help in their order."""
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


part_options = _together(
    click.option("--phase", type=click.Choice(["TEST", "TRAIN"]), default="TEST"),
    click.option("--level", type=int, default=0, help="The net state's level."),
    click.option("--stage", "stages", multiple=True, help="A stage of the net state."),
    click.option(
        "--until",
        "outputs",
        type=_names,
        default="",
        metavar="BLOB[,BLOB]",
        help="End the net at these blobs; what they do not need is dropped, whatever it is.",
    ),
)
"""Which part of a file's layers is the net."""


workers_option = click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Processes that prepare the batches of each data layer. By default 2 "
    "where images are read, and none for HDF5Data and DummyData.",
)


def state_options(phase: str) -> Option:
    """The state of a net that runs with its data, in phase ``phase`` by default, and where."""
    return _together(
        click.option(
            "--phase", type=click.Choice(["TEST", "TRAIN"]), default=phase, show_default=True
        ),
        click.option("--level", type=int, default=0, help="The net state's level."),
        click.option("--stage", "stages", multiple=True, help="A stage of the net state."),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda"]),
            default="auto",
            show_default=True,
            help="auto: a GPU if there is one.",
        ),
        workers_option,
    )


net_options = _together(
    click.option("--prototxt", type=click.Path(), help="The net's definition."),
    part_options,
    click.option(
        "--input-shape",
        "input_shapes",
        type=_shape,
        metavar=SHAPE,
        multiple=True,
        help="Replaces the declared shape of an input.",
    ),
    click.option(
        "--allow-missing",
        is_flag=True,
        help="Layers without weights keep the values of their fillers.",
    ),
    click.option("--strict", is_flag=True, help="Refuse weights that no layer uses."),
    click.option(
        "--crop",
        type=click.Choice(["bvlc", "fork"]),
        default="bvlc",
        help="The rule of a Crop without crop_param: BVLC's, or that of the FCN and HED forks.",
    ),
    plugin_option,
)
"""Which net to read, the same for every command."""


def weights_of(model: str, options: dict[str, Any]) -> str | None:
    """The MODEL argument as weights; what is left in ``options`` is for ``read``.

    A prototxt in the place of weights is the net alone.
    """
    options.pop("plugins")
    options["input_shapes"] = dict(options["input_shapes"])
    if options["prototxt"] is None and model.endswith(".prototxt"):
        options["prototxt"] = model
        return None
    return model
