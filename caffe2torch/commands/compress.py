"""caffe2torch compress."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
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
