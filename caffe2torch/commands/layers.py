"""caffe2torch layers."""

from __future__ import annotations

import json

import click

from caffe2torch.commands._options import part_options, plugin_option
from caffe2torch.commands._output import print_table


@click.command()
@click.option(
    "--missing",
    "net",
    type=click.Path(),
    help="List what this prototxt or caffemodel has that is not known, and what becomes of it.",
)
@part_options
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def layers(
    net: str | None,
    phase: str,
    level: int,
    stages: tuple[str, ...],
    outputs: tuple[str, ...],
    plugins: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the supported layer types, for torch, for ONNX and for PyTorch source.

    The options of a net's state go with --missing, which exits with 1 if something is refused.
    """
    rows: list[dict[str, str | int]]
    if net is not None:
        from caffe2torch.lacking import lacking
        from caffe2torch.passes.draft import State

        rows = lacking(net, State(phase, level, stages), outputs)
    else:
        from caffe2torch.summary import support

        rows = [dict(row) for row in support()]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    elif net is None:
        print_table(
            ("layer type", "torch", "onnx", "source", "what it is"),
            [tuple(map(str, row.values())) for row in rows],
        )
    elif rows:
        print_table(
            ("", "name", "layers", "what becomes of it"),
            [tuple(map(str, row.values())) for row in rows],
        )
    else:
        click.echo("every layer type and field of the net is known")
    if net is not None and any(row["treatment"] == "refused" for row in rows):
        click.get_current_context().exit(1)
