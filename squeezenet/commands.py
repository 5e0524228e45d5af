"""The commands that are not about training or using a model: compress, demo, pack and mean."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe2torch.commands import OutputFile, OutputFolder
from caffe2torch.commands.parity import DIFFERENT
from caffe2torch.preprocessing import MOST_PIXELS

if TYPE_CHECKING:
    from squeezenet.evaluate import Metrics

PATH = click.Path(path_type=Path)
OUTPUT = OutputFile(path_type=Path)
COUNT = click.IntRange(min=0)
SEED = click.IntRange(0, 2**63 - 1)
UNITS = {
    "": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip


class Parsed(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    """What ``parse`` makes of a text; its ValueError says what is wrong with the text."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value; a default that is one already stays."""
        try:
            return self.parse(value) if isinstance(value, str) else value
        except ValueError as error:
            return self.fail(f"{value!r} {error}", param, ctx)


def _size(text: str) -> int:
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d+)?)\s*([kmgi]{0,2}b?)\s*", text, re.IGNORECASE)
    unit = UNITS.get(match[2].lower(), 0) if match else 0
    if match is None or not (size := int(float(match[1]) * unit)):
        raise ValueError("is not a size such as 0.7MB or 700000")
    return size


SIZE = Parsed("size", _size)


@click.command()
@click.argument("model", type=PATH)
@click.argument("output", type=OUTPUT)
@click.option(
    "--calibrate", type=PATH, required=True, help="A folder of images; labels are not needed."
)
@click.option(
    "--size",
    type=SIZE,
    default="0.7MB",
    show_default=True,
    help="Of OUTPUT, at most.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="How many of the folder's images to take.",
)
@click.option("--seed", type=SEED, default=0, show_default=True)
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
    from squeezenet.compress import compress_file, measure

    if data is None and val_list is not None:
        raise click.UsageError("--val-list needs --data, the root of its paths")
    before = measure(model, model, data, val_list, report) if data else None
    result = compress_file(
        model, output, calibrate, size=size, images=images, seed=seed, report=report
    )
    for path in result.files:
        click.echo(f"{path}  {path.stat().st_size:,} bytes")
    share = result.kept / result.weights
    click.echo(f"{result.kept:,} of {result.weights:,} weights are kept ({share:.1%})")
    if data and before:
        click.echo(_line("before", model, before))
        click.echo(_line("after", output, measure(output, model, data, val_list, report)))


def _line(when: str, path: Path, metrics: Metrics) -> str:
    share = max(metrics.images, 1)
    return (
        f"{when:6}  {path.stat().st_size:>10,} bytes  of {metrics.images} images: "
        f"top-1 {metrics.top1} ({metrics.top1 / share:.1%}), "
        f"top-5 {metrics.top5} ({metrics.top5 / share:.1%})"
    )


def report(message: str) -> None:
    """Say on stderr what is being done."""
    click.echo(message, err=True)


runtime_option = click.option(
    "--runtime",
    type=PATH,
    metavar="FILE",
    help="For the page: ONNX Runtime Web as npm packs it. By default it is downloaded once, 33 MB.",
)


@click.command()
@click.option(
    "--out",
    type=OutputFolder(path_type=Path),
    default="caffe2torch_demo",
    show_default=True,
    metavar="FOLDER",
    help="Where the converted files and the report go, or the page.",
)
@click.option(
    "--web",
    is_flag=True,
    help="Write FOLDER/index.html instead, a page that classifies your images in a browser.",
)
@runtime_option
def demo(out: Path, web: bool, runtime: Path | None) -> None:
    """Convert, check and use a small SqueezeNet that comes with caffe2torch.

    Exit code 0: the engines agree and the digits are recognised; 1: they do not.
    """
    from squeezenet.demo import run_demo, write_web_demo

    if runtime is not None and not web:
        raise click.UsageError("--runtime is for --web")
    if web:
        page = write_web_demo(out, runtime)
        click.echo(f"{page}  {page.stat().st_size:,} bytes; open it in a browser")
    elif not run_demo(out):
        sys.exit(DIFFERENT)


def _side(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (-1, -1)
    if size == (0, 0):
        return None
    if not 0 < min(size) <= max(size) <= MOST_PIXELS:
        raise ValueError(f"is not 0, a side or HEIGHTxWIDTH of 1 to {MOST_PIXELS} pixels")
    return size


@click.command()
@click.argument("output", type=PATH)
@click.option("--data", type=PATH, default=Path(), help="Root of the list's paths, or a tree.")
@click.option("--list", "listing", help="List 'path label', or a tree of class folders.")
@click.option(
    "--resize",
    type=Parsed("side|HxW", _side),
    default="256",
    show_default=True,
    help="Size of the images, height first; 0: as they are.",
)
@click.option("--encoded", type=click.Choice(["jpg", "png"]), help="Files instead of raw pixels.")
@click.option("--shard-size", type=SIZE, help="Of a tar file, at most; 1GB unless given.")
@click.option("--gray", is_flag=True, help="One channel.")
@click.option("--shuffle", is_flag=True, help="In a random order, which --seed decides.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--check-size", is_flag=True, help="All images must be as large as the first.")
@click.option("--workers", type=COUNT, default=2, show_default=True)
@click.option(
    "--on-bad-image", type=click.Choice(["skip", "fail"]), default="skip", show_default=True
)
def pack(
    output: Path, data: Path, listing: str | None, resize: tuple[int, int] | None,
    encoded: str | None, shard_size: int | None, gray: bool, shuffle: bool, seed: int,
    check_size: bool, workers: int, on_bad_image: str,
) -> None:  # fmt: skip
    """Write images into OUTPUT, an LMDB as Caffe's convert_imageset makes it.

    An OUTPUT such as train-%06d.tar means tar files as the WebDataset library shards them, each
    with its index beside it; raw pixels are .bmp files in them.

    After an interruption the same command goes on.
    """
    from squeezenet.data import BadImages
    from squeezenet.pack import Packing
    from squeezenet.pack import pack as run
    from squeezenet.sinks import SHARD_BYTES, DatabaseSink, ShardSink, Sink
    from squeezenet.sources import open_files

    if not output.name:
        raise click.UsageError(f"OUTPUT {str(output)!r} is not the name of a file")
    sink: Sink
    if output.suffix == ".tar":
        sink = ShardSink(output, shard_size or SHARD_BYTES)
        encoded = encoded or "bmp"
    elif shard_size is not None:
        raise click.UsageError("--shard-size is for tar files: OUTPUT such as train-%06d.tar")
    elif re.search(r"%\d*d", output.name):
        raise click.UsageError(f"OUTPUT {output} is numbered as tar files are: end it in .tar")
    else:
        sink = DatabaseSink(output)
    images = open_files(data, listing)
    count = run(
        images, sink, Packing(resize, encoded, gray, shuffle, check_size, seed),
        workers=workers, bad=BadImages(on_bad_image, report), report=report,
        show_progress=sys.stderr.isatty(),
    )  # fmt: skip
    click.echo(f"{sink}  {count} of {len(images)} images")


@click.command()
@click.argument("images", type=PATH)
@click.argument("output", type=OUTPUT)
@click.option("--workers", type=COUNT, default=2, show_default=True)
def mean(images: Path, output: Path, workers: int) -> None:
    """Write the mean image of IMAGES into OUTPUT (.binaryproto), for --mean.

    IMAGES is what squeezenet pack has made, an LMDB or tar files (train-{000000..000123}.tar).
    """
    from squeezenet.mean import mean_image, write_mean
    from squeezenet.sources import open_split

    source = open_split(images, None, ".").source
    values = mean_image(source, workers=workers, show_progress=sys.stderr.isatty())
    write_mean(values, output)
    for channel, value in enumerate(values.mean(axis=(1, 2), dtype="float64")):
        click.echo(f"channel {channel}  {value:.4f}")
