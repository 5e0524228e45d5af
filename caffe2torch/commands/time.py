"""caffe2torch time."""

from __future__ import annotations

import click

from caffe2torch.commands._options import state_options


@click.command()
@click.option("--model", type=click.Path(), required=True, help="The net.")
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many passes the times are the mean of.",
)
@state_options("TRAIN")
def time(
    model: str,
    iterations: int,
    phase: str,
    level: int,
    stages: tuple[str, ...],
    device: str,
    workers: int | None,
) -> None:
    """Time each layer of a net, forward and backward.

    The lines are those of caffe time, on stderr. Weights have the values of their fillers.
    """
    from caffe2torch.training.log import Log
    from caffe2torch.training.run import open_fed
    from caffe2torch.training.score import measure

    with open_fed(model, phase, level, stages, (), device, workers) as net:
        measure(net, iterations, Log(lambda text: click.echo(text, err=True)))
