"""caffe2torch quantize."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from caffe2torch.commands import OutputFile
from caffe2torch.commands._options import net_options, weights_of
from caffe2torch.commands._output import print_table, write_text

if TYPE_CHECKING:
    from caffe2torch.int8 import QuantizeReport


@click.command()
@click.argument("model", type=click.Path())
@click.argument("output", type=OutputFile())
@net_options
@click.option(
    "--images", type=click.Path(), required=True, help="A folder of images that the net may see."
)
@click.option(
    "--val-list",
    type=click.Path(),
    help="'file label' a line.  [default: val_list.txt in the folder or beside it]",
)
@click.option(
    "--calibrate",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="How many images, at most half of them, to calibrate on; the others are compared.",
)
@click.option(
    "--reduce-range", is_flag=True, help="7-bit weights, for x86 processors without VNNI."
)
@click.option(
    "--symmetric",
    is_flag=True,
    help="Activations with zero point 0, biases in float32: for TensorRT.",
)
@click.option("--per-tensor", is_flag=True, help="One scale for a weight, not one a channel.")
@click.option("--json", "json_path", type=OutputFile(), help="Write the report as JSON.")
def quantize(model: str, output: str, json_path: str | None, **options: Any) -> None:
    """Write MODEL as an int8 ONNX file OUTPUT, and say what that costs.

    ONNX Runtime's static quantisation with calibration images. The report compares the
    result with the float32 form on the images that were not calibrated on.
    """
    from caffe2torch import int8

    weights = weights_of(model, options)
    report = int8.quantize(weights, output, **options)
    if json_path:
        write_text(json_path, json.dumps(report.to_dict(), indent=1) + "\n")
    _print_report(report)


def _print_report(report: QuantizeReport) -> None:
    share = report.int8_bytes / report.float32_bytes
    rows: list[tuple[str, ...]] = [
        ("bytes", f"{report.float32_bytes:,}", f"{report.int8_bytes:,} ({share:.0%})")
    ]
    scores = list(report.scores.values())
    for name in ("top1", "top5") if scores else ():
        right = (f"{getattr(score, name)} of {score.images}" for score in scores)
        rows.append((f"top-{name[-1]} right", *right))
    if report.agreement.images:
        same = f"{report.agreement.top1} of {report.agreement.images}"
        rows.append(("top-1 as float32", "", same))
    rows.append(("signal to noise", "", f"{report.signal_to_noise:.1f} dB"))
    click.echo(f"{report.path}  {report.int8_bytes:,} bytes")
    print_table(("", "float32", "int8"), rows)
    click.echo(f"calibrated on {report.calibrated} images, compared on {report.images} others")
