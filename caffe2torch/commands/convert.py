"""caffe2torch convert."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from caffe2torch import extensions
from caffe2torch.commands import RegisteredChoice
from caffe2torch.commands._options import NUMBERS, net_options, numbers, weights_of
from caffe2torch.commands._output import progress_bar


def consumer_names() -> Sequence[str]:
    """The registered consumers; their files are imported when the choice is looked at."""
    from caffe2torch import consumers

    return consumers.consumer_names()


class _Convert(click.Command):
    """Its help ends with the kinds of file that there are writers for."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from caffe2torch.artefact.write import suffixes

        formatter.write_paragraph()
        formatter.write_text(f"OUTPUT ends in one of {', '.join(suffixes())}.")


@click.command(cls=_Convert)
@click.argument("model", type=click.Path())
@click.argument("output", type=click.Path())
@net_options
@click.option(
    "--input",
    type=click.Choice(["rgb01", "imagenet"]),
    help="Make the result take RGB in [0, 1], or that normalised as torchvision does.",
)
@click.option(
    "--mean",
    type=numbers,
    metavar=NUMBERS,
    help="The mean that the net's own input subtracts, if its file does not say.",
)
@click.option("--scale", type=float, help="The factor after the mean, likewise.")
@click.option(
    "--layout",
    type=RegisteredChoice(lambda: extensions.names(extensions.LAYOUTS)),
    help="Write a bare state_dict under another project's names.",
)
@click.option(
    "--half",
    is_flag=True,
    help="Store the weights in half precision; an .onnx computes in it, but where it would not do.",
)
@click.option(
    "--optimize",
    is_flag=True,
    help="Fold BatchNorm and Scale into convolutions and remove Dropout, for inference.",
)
@click.option(
    "--opset",
    type=click.IntRange(min=13),
    help="The version of an .onnx file's operators, 13 to the newest; 17 by default.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    help="Fix the batch of an .onnx file, which is open where the net allows it.",
)
@click.option("--static", is_flag=True, help="Give an .onnx file no open sizes.")
@click.option(
    "--fixed-rows",
    is_flag=True,
    help="That, and detections in a fixed number of rows, the last ones of -1.",
)
@click.option(
    "--external-data", is_flag=True, help="Write the weights of an .onnx file to a file beside it."
)
@click.option(
    "--bare", is_flag=True, help="Write a state_dict alone, without metadata (.pt, .safetensors)."
)
@click.option(
    "--for",
    "consumer",
    type=RegisteredChoice(consumer_names),
    help="Write the form that this program reads rightly, run by it where it is installed.",
)
def convert(model: str, output: str, consumer: str | None, **options: Any) -> None:
    """Convert MODEL to the kind of file that the suffix of OUTPUT names.

    A .py is PyTorch source that runs without caffe2torch; its weights are written beside it.

    MODEL is a .caffemodel (binary or HDF5), a Deep Compression file (.net), one of our
    artefacts, or a .prototxt for a net without learned weights.
    """
    from caffe2torch.io.checksum import OpenedFile, computing

    weights = weights_of(model, options)
    # Begun before the rest is imported, which takes as long as the checksum of 300 MB.
    # Other files need none: artefacts carry the checksum of their source.
    opened = OpenedFile(model) if model.endswith(".caffemodel") else None
    with computing(opened.checksum if opened else None), progress_bar(model) as progress:
        options["progress"] = progress
        if consumer is None:
            from caffe2torch import api

            if options["half"] and output.endswith(".onnx") and not options["layout"]:
                from caffe2torch.float16 import write_and_report

                options["writer"] = partial(write_and_report, report=click.echo)
            path = api.convert(opened or weights, output, **options)
        else:
            from caffe2torch.consumers._convert import convert_for

            path = convert_for(consumer, opened or weights, output, report=click.echo, **options)
    size = sum(part.stat().st_size for part in (path, *path.rglob("*")) if part.is_file())
    click.echo(f"{path}  {size:,} bytes")
