"""caffe2torch demo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffe2torch.commands._output import print_table
from caffe2torch.commands.parity import DIFFERENT, print_report

if TYPE_CHECKING:
    from caffe2torch.demo import Demo


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
    from caffe2torch.demo import run_demo

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
