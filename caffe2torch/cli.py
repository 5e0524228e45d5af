"""The command line: parsing, printing and exit codes on top of the Python API."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe2torch.errors import Caffe2TorchError

if TYPE_CHECKING:
    from caffe2torch.graph import Shape
    from caffe2torch.parity.check import ParityReport

DIFFERENT = 1
"""Exit code of a parity check whose engines disagree; unusable input is 2."""


class _Group(click.Group):
    """Ends every error a user can cause as one line on stderr and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning  # type: ignore[assignment]  # same calls
            try:
                return super().invoke(ctx)
            except Caffe2TorchError as error:
                click.echo(f"Error: {error}", err=True)
                ctx.exit(error.exit_code)


def _print_warning(message: Warning | str, *_: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


class _ShapeOption(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
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


def _net_options(command: Callable[..., Any]) -> Callable[..., Any]:
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
                type=_ShapeOption(),
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
                "--plugin",
                "plugins",
                multiple=True,
                metavar="MODULE",
                help="Import a module that registers layers of your own.",
            ),
        )
    ):
        command = option(command)
    return command


def _read_options(options: dict[str, Any]) -> dict[str, Any]:
    _import_plugins(options.pop("plugins"))
    options["input_shapes"] = dict(options["input_shapes"])
    return options


def _weights(model: str, options: dict[str, Any]) -> str | None:
    """The MODEL argument as weights; a prototxt given in their place is the net alone."""
    if options["prototxt"] is None and model.endswith(".prototxt"):
        options["prototxt"] = model
        return None
    return model


def _import_plugins(names: tuple[str, ...]) -> None:
    sys.path.insert(0, str(Path.cwd()))
    try:
        for name in names:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise click.UsageError(f"cannot import the plugin {name!r}: {error}") from error
    finally:
        sys.path.pop(0)


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    from caffe2torch import __version__

    click.echo(f"caffe2torch {__version__}")
    for name in ("torch", "onnx", "onnxruntime", "opencv-python-headless", "protobuf", "numpy"):
        try:
            click.echo(f"  {name} {version(name)}")
        except PackageNotFoundError:
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


@main.command()
@click.argument("model", type=click.Path())
@click.argument("output", type=click.Path())
@_net_options
def convert(model: str, output: str, **options: Any) -> None:
    """Convert MODEL to OUTPUT: .pt, .safetensors or .onnx, as its suffix says.

    MODEL is a .caffemodel (binary or HDF5), one of our artefacts, or a .prototxt for a net
    without learned weights.
    """
    from caffe2torch import api

    options = _read_options(options)
    weights = _weights(model, options)
    path = api.convert(weights, output, **options)
    click.echo(f"{path}  {path.stat().st_size:,} bytes")


@main.command()
@click.argument("model", type=click.Path())
@_net_options
@click.option("--images", type=click.Path(), help="A folder of images to feed.")
@click.option(
    "--random",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="Without --images: how many batches of random input to feed.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help="Largest absolute difference of a blob.  [default: 1e-4 of its peak]",
)
@click.option("--reference", type=click.Path(), help="An .npz of recorded Caffe outputs.")
@click.option("--json", "json_path", type=click.Path(), help="Write the report to this file.")
def parity(
    model: str,
    images: str | None,
    random: int,
    tolerance: float | None,
    reference: str | None,
    json_path: str | None,
    **options: Any,
) -> None:
    """Run MODEL on torch, ONNX Runtime and OpenCV and compare every blob.

    Exit code 0: all agree; 1: a blob differs by more than the tolerance; 2: unusable input.
    """
    from caffe2torch.parity.check import check_parity

    report = check_parity(
        model,
        images=images,
        random=random,
        tolerance=tolerance,
        reference=reference,
        **_read_options(options),
    )
    if json_path:
        _write_text(json_path, json.dumps(report.to_dict(), indent=1) + "\n")
    _print_report(report)
    if not report.passed:
        sys.exit(DIFFERENT)


@main.command()
@click.argument("model", type=click.Path())
@_net_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: str, as_json: bool, **options: Any) -> None:
    """Show the layers of MODEL: output shapes, parameters and multiply-adds."""
    from caffe2torch import api
    from caffe2torch.summary import summary

    options = _read_options(options)
    weights = _weights(model, options)
    table = summary(api.read(weights, **options))
    if as_json:
        click.echo(json.dumps(table, indent=1))
        return
    rows = [
        (
            r["name"],
            r["type"],
            _shapes(r["output_shapes"]),
            f"{r['parameters']:,}",
            f"{r['multiply_adds']:,}",
        )
        for r in table["layers"]
    ]
    _print_table(("layer", "type", "output", "parameters", "multiply-adds"), rows)
    click.echo(
        f"total: {table['parameters']:,} parameters, {table['multiply_adds']:,} multiply-adds"
    )


@main.command()
@click.option("--plugin", "plugins", multiple=True, metavar="MODULE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def layers(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the supported layer types, for torch and for ONNX."""
    from caffe2torch.summary import support

    _import_plugins(plugins)
    rows = support()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    _print_table(
        ("layer type", "torch", "onnx", "what it is"),
        [(r["type"], r["torch"], r["onnx"], r["summary"]) for r in rows],
    )


def _print_report(report: ParityReport) -> None:
    click.echo(f"{report.model}: {report.images} inputs")
    rows = []
    for c in report.comparisons:
        last = next((d for d in c.blobs if d.blob == c.logits), c.blobs[-1])
        agreed = c.agreement
        rows.append(
            (
                f"{c.engine} / {c.baseline}",
                f"{len(c.blobs)}",
                f"{last.max_abs:.2e}",
                f"{c.worst.max_rel:.2e} ({c.worst.blob})",
                f"{agreed.top1}/{agreed.images}" if agreed.images else "-",
                f"{agreed.top5}/{agreed.images}" if agreed.images else "-",
                c.first_divergence or "none",
            )
        )
    logits = report.comparisons[0].logits
    _print_table(
        (
            "engines",
            "blobs",
            f"max abs error of {logits}",
            "max relative error",
            "top-1 same",
            "top-5 same",
            "first diverging blob",
        ),
        rows,
    )
    for name, score in report.scores.items():
        click.echo(f"{name}: top-1 {score.top1}/{score.images}, top-5 {score.top5}/{score.images}")
    for name, reason in report.skipped.items():
        click.echo(f"{name} was skipped: {reason}")
    click.echo("parity: PASS" if report.passed else "parity: FAIL")


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def _shapes(shapes: list[list[int]]) -> str:
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


def _write_text(path: str, text: str) -> None:
    from caffe2torch.io.atomic import atomic_write

    with atomic_write(path) as file:
        file.write(text.encode())
