"""caffe2torch parity."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from caffe2torch.commands._options import net_options, read_options
from caffe2torch.commands._output import print_table, write_text

if TYPE_CHECKING:
    from caffe2torch.parity.check import ParityReport

DIFFERENT = 1
"""Exit code of a parity check whose engines disagree; unusable input is 2."""


@click.command()
@click.argument("model", type=click.Path())
@net_options
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
        **read_options(options),
    )
    if json_path:
        write_text(json_path, json.dumps(report.to_dict(), indent=1) + "\n")
    _print_report(report)
    if not report.passed:
        sys.exit(DIFFERENT)


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
    print_table(
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
