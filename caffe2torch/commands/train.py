"""caffe2torch train."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from caffe2torch.commands import OutputFile, OutputFolder
from caffe2torch.commands._options import workers_option
from caffe2torch.commands.running import progress_bar, signals

EFFECTS = click.Choice(["stop", "snapshot", "none"])


@click.command()
@click.option("--solver", type=click.Path(), required=True, help="The solver.prototxt.")
@click.option(
    "--weights",
    default="",
    metavar="FILE[,FILE]",
    help="Weights to begin with; of a layer that several files have, the last one's count.",
)
@click.option("--snapshot", type=click.Path(), help="A solverstate to go on from.")
@click.option(
    "--resume-data",
    is_flag=True,
    help="Go on with the data where the snapshot was written; without it they begin again.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from this solver's newest snapshot and its place in the data, once there is one.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: as solver_mode and device_id say, or the CPU where there is no GPU.",
)
@workers_option
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of the products in convolutions and InnerProducts; all else is float32.",
)
@click.option(
    "--channels-last/--no-channels-last",
    default=None,
    help="Keep the channels of convolutions together in memory, which changes roundings alone; "
    "without either where it is faster: on a CPU, in bf16 without BatchNorm, and on a GPU in bf16.",
)
@click.option(
    "--python-layers",
    type=click.Path(exists=True, file_okay=False),
    metavar="DIR",
    help="Run the net's Python layers, whose modules are in this folder or on Python's path.",
)
@click.option("--level", type=int, default=0, help="The training net's level, not the files'.")
@click.option("--stage", "stages", multiple=True, help="A stage of the training net.")
@click.option("--sigint-effect", type=EFFECTS, default="stop", show_default=True, help="Of Ctrl-C.")
@click.option(
    "--sighup-effect", type=EFFECTS, default="snapshot", show_default=True, help="Of SIGHUP."
)
@click.option("--log-json", type=OutputFile(path_type=Path), help="Append numbers as JSON lines.")
@click.option(
    "--tensorboard",
    type=OutputFolder(path_type=Path),
    metavar="DIR",
    help="Write event files for TensorBoard into this folder.",
)
def train(
    solver: str,
    weights: str,
    sigint_effect: str,
    sighup_effect: str,
    log_json: Path | None,
    tensorboard: Path | None,
    python_layers: str | None,
    precision: str,
    channels_last: bool | None,
    **options: Any,
) -> None:
    """Train a net as its solver.prototxt says.

    The log goes to stderr in the form that Caffe's log parsers read. Started by torchrun,
    each process takes a part of the data and a batch of batch_size.
    """
    from caffe2torch.training import run
    from caffe2torch.training.log import Log
    from caffe2torch.training.precision import Arithmetic

    files = tuple(filter(None, weights.split(",")))
    with (
        _running(python_layers),
        signals(sigint_effect, sighup_effect) as requested,
        progress_bar() as (write, progress),
    ):
        log = Log(write, log_json, tensorboard)
        try:
            run.train(
                solver,
                log=log,
                weights=files,
                arithmetic=Arithmetic(precision, channels_last),
                requested=requested,
                progress=progress,
                **options,
            )
        finally:
            log.close()


@contextmanager
def _running(folder: str | None) -> Iterator[None]:
    """Within the block, nets may have Python layers with modules in ``folder``, if one is given."""
    if folder is None:
        yield
        return
    from caffe2torch.pycaffe.layer import python_layers

    sys.path.insert(0, folder)
    with python_layers():
        yield
