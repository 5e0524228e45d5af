"""caffe2torch parity."""

from __future__ import annotations

import json
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from caffe2torch.commands import FiniteRange, OutputFile, OutputFolder, engine_choice
from caffe2torch.commands._options import net_options, weights_of
from caffe2torch.commands._output import print_table, write_text
from caffe2torch.engines import ALL
from caffe2torch.parity import RANDOM_BATCHES

if TYPE_CHECKING:
    from caffe2torch.parity.reproducer import Reproducer
    from caffe2torch.parity.result import ParityReport

DIFFERENT = 1
"""Exit code of a parity check whose engines disagree; unusable input is 2."""


@click.command()
@click.argument("model", type=click.Path())
@net_options
@click.option("--images", type=click.Path(), help="A folder of images to feed.")
@click.option("--inputs", type=click.Path(), help="An .npz of the inputs to feed, by blob name.")
@click.option(
    "--random",
    type=click.IntRange(min=1),
    default=RANDOM_BATCHES,
    show_default=True,
    metavar="N",
    help="Without --images and --inputs: how many batches of random input to feed.",
)
@click.option(
    "--engine",
    "engines",
    type=engine_choice(ALL),
    multiple=True,
    help="Run only this engine; again for more. The first is the baseline. 'all': every one that "
    "is installed.  [default: torch, onnxruntime, opencv]",
)
@click.option("--reference", type=click.Path(), help="An .npz of recorded Caffe outputs.")
@click.option(
    "--tolerance",
    type=FiniteRange(min=0),
    help="Largest absolute difference of a blob.  [default: 1e-4 of its peak]",
)
@click.option(
    "--bisect",
    metavar="DIR",
    type=OutputFolder(),
    help="Where engines differ, find the first layer that does and write it into this folder.",
)
@click.option("--report", "report_path", type=OutputFile(), help="Write an HTML report.")
@click.option("--synset-words", type=click.Path(), help="Class names for the report, one a line.")
@click.option("--json", "json_path", type=OutputFile(), help="Write the report as JSON.")
@click.option("--junit", "junit_path", type=OutputFile(), help="Write the report as JUnit XML.")
def parity(
    model: str,
    report_path: str | None,
    json_path: str | None,
    junit_path: str | None,
    engines: tuple[str, ...],
    **options: Any,
) -> None:
    """Run MODEL on several engines and compare every blob.

    Exit code 0: all agree, but for rounding and known faults of an engine, which are named;
    1: a blob differs; 2: unusable input.
    """
    from caffe2torch.parity.check import check_parity

    if report_path:
        from caffe2torch.parity.report import require_libraries

        require_libraries()
    plugins = options["plugins"]
    weights = weights_of(model, options)
    report = check_parity(weights, engines=engines or None, **options)
    if json_path:
        write_text(json_path, json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n")
    if junit_path:
        from caffe2torch.parity.junit import write_junit

        write_junit(report, junit_path)
    if report_path:
        from caffe2torch.parity.report import write_report

        write_report(report, report_path)
    print_report(report)
    _print_bisection(report, plugins)
    click.echo("parity: PASS" if report.passed else "parity: FAIL")
    if not report.passed:
        sys.exit(DIFFERENT)


def print_report(report: ParityReport) -> None:
    """The table of the pairs of engines, what explains differences, scores, engines left out."""
    click.echo(f"{report.model}: {report.images} inputs")
    rows = []
    for c in report.comparisons:
        agreed = c.agreement
        rows.append(
            (
                f"{c.engine} / {c.baseline}",
                f"{len(c.blobs)}",
                f"{c.last.max_abs:.2e}",
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
    for c in report.comparisons:
        for line in c.notes():
            click.echo(f"{c.engine} / {c.baseline}: {line}")
    for name, precision in report.precisions.items():
        click.echo(f"{name} computes in {precision}")
    for name, score in report.scores.items():
        click.echo(f"{name}: top-1 {score.top1}/{score.images}, top-5 {score.top5}/{score.images}")
    for name, reason in report.skipped.items():
        click.echo(f"{name} was skipped: {reason}")


def _print_bisection(report: ParityReport, plugins: tuple[str, ...]) -> None:
    found = report.bisection
    if found is None:
        return
    for line in found.summary():
        click.echo(f"bisect: {line}")
    if found.files is not None:
        click.echo(f"bisect: {_command(found.files, report.graph.phase, plugins)}")


def _command(files: Reproducer, phase: str, plugins: tuple[str, ...]) -> str:
    """The command that runs a reproducer."""
    words = ["caffe2torch", "parity", files.model, "--prototxt", files.prototxt]
    words += ["--inputs", files.inputs, "--reference", files.reference]
    if phase != "TEST":
        words += ["--phase", phase]
    for plugin in plugins:
        words += ["--plugin", plugin]
    return shlex.join(words)
