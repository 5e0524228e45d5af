"""caffe2torch test."""

from __future__ import annotations

import click

from caffe2torch.commands._options import state_options


@click.command()
@click.option("--model", type=click.Path(), required=True, help="The net, with its data layers.")
@click.option(
    "--weights",
    required=True,
    metavar="FILE[,FILE]",
    help="Its weights; of a layer that several files have, the last one's count.",
)
@click.option(
    "--iterations",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many passes, each on a batch.",
)
@state_options("TEST")
def test(
    model: str,
    weights: str,
    iterations: int,
    phase: str,
    level: int,
    stages: tuple[str, ...],
    device: str,
    workers: int | None,
) -> None:
    """Measure a net on its own data: the mean of every output over some passes.

    The lines are those of caffe test, on stderr.
    """
    from caffe2torch.training.log import Log
    from caffe2torch.training.run import open_fed
    from caffe2torch.training.score import score

    files = [name for name in weights.split(",") if name]
    with open_fed(model, phase, level, stages, files, device, workers) as net:
        score(net, iterations, Log(lambda text: click.echo(text, err=True)))
