"""The commands that SqueezeNet adds to caffe2torch: compress and demo."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe2torch.commands._output import print_table
from caffe2torch.commands.parity import DIFFERENT, print_report

if TYPE_CHECKING:
    from squeezenet.demo import Demo
    from squeezenet.evaluate import Metrics

PATH = click.Path(path_type=Path)
UNITS = {"": 1, "kb": 1000, "mb": 1000**2, "kib": 1024, "mib": 1024**2}


class _SizeType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    name = "BYTES|KB|MB|KIB|MIB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmi]{0,2}b?)\s*", value, re.IGNORECASE)
        factor = UNITS.get(match[2].lower()) if match else None
        if match is None or factor is None:
            self.fail(f"{value!r} is not a size such as 0.7MB or 700000", param, ctx)
        return int(float(match[1]) * factor)


@click.command()
@click.argument("model", type=PATH)
@click.argument("output", type=PATH)
@click.option(
    "--calibrate", type=PATH, required=True, help="A folder of images; labels are not needed."
)
@click.option(
    "--size", type=_SizeType(), default="0.7MB", show_default=True, help="Of OUTPUT, at most."
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="How many of the folder's images to take.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--data", type=PATH, help="Root of the list's paths: measure accuracy on it.")
@click.option("--val-list", help="List 'path label', as for squeezenet eval.")
def compress(
    model: Path,
    output: Path,
    calibrate: Path,
    size: int,
    images: int,
    seed: int,
    data: Path | None,
    val_list: str | None,
) -> None:
    """Prune and cluster the SqueezeNet in MODEL into OUTPUT, a Deep Compression file (.net).

    The net's prototxt is written beside OUTPUT. The images to calibrate on should be of the
    kind that the net is for, and other ones than those of the list.
    """
    from squeezenet.compressed_file import compress_file, measure

    if data is None and val_list is not None:
        raise click.UsageError("--val-list needs --data, the root of its paths")
    before = measure(model, model, data, val_list, _report) if data else None
    result = compress_file(
        model, output, calibrate, size=size, images=images, seed=seed, report=_report
    )
    for path in result.files:
        click.echo(f"{path}  {path.stat().st_size:,} bytes")
    share = result.kept / result.weights
    click.echo(f"{result.kept:,} of {result.weights:,} weights are kept ({share:.1%})")
    if data and before:
        click.echo(_line("before", model, before))
        click.echo(_line("after", output, measure(output, model, data, val_list, _report)))


def _line(when: str, path: Path, metrics: Metrics) -> str:
    share = max(metrics.images, 1)
    return (
        f"{when:6}  {path.stat().st_size:>10,} bytes  of {metrics.images} images: "
        f"top-1 {metrics.top1} ({metrics.top1 / share:.1%}), "
        f"top-5 {metrics.top5} ({metrics.top5 / share:.1%})"
    )


def _report(message: str) -> None:
    click.echo(message, err=True)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="caffe2torch_demo",
    show_default=True,
    metavar="FOLDER",
    help="Where the converted files and the report go.",
)
def demo(out: Path) -> None:
    """Convert, check and use a small SqueezeNet that comes with caffe2torch.

    Exit code 0: the engines agree and the digits are recognised; 1: they do not.
    """
    from squeezenet.demo import run_demo

    click.echo("A SqueezeNet v1.1 for handwritten digits, in Caffe's format.")
    done = run_demo(out)
    for path in done.files:
        click.echo(f"converted  {path}  {path.stat().st_size:,} bytes")
    click.echo()
    print_report(done.parity)
    click.echo()
    _print_answers(done)
    click.echo(f"report: {done.page}" if done.page else f"no HTML report: {done.no_page}")
    engines = 1 + len(done.parity.comparisons)
    if not done.passed:
        click.secho("demo: FAIL", fg="red", bold=True)
        sys.exit(DIFFERENT)
    click.secho(f"demo: PASS, {engines} engines agree on every blob", fg="green", bold=True)
    _print_next(done)


def _print_answers(done: Demo) -> None:
    rows = [(a.file, a.predicted, f"{a.probability:.1%}", a.truth) for a in done.answers]
    print_table(("image", "predicted", "probability", "truth"), rows)
    click.echo(f"{sum(a.right for a in done.answers)} of {len(rows)} right")


def _print_next(done: Demo) -> None:
    sample = done.sample
    commands = (
        ("caffe2torch", "inspect", sample.caffemodel),
        ("squeezenet", "infer", "--weights", done.files[0], "--synset-words", sample.classes,
         sample.images),
        ("caffe2torch", "convert", "YOURS.caffemodel", "YOURS.onnx"),
    )  # fmt: skip
    click.echo("next:")
    for command in commands:
        click.echo(f"  {shlex.join(map(str, command))}")
