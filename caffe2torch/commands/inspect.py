"""caffe2torch inspect."""

from __future__ import annotations

import json
from typing import Any

import click

from caffe2torch.commands._options import net_options, weights_of
from caffe2torch.commands._output import print_table


@click.command()
@click.argument("model", type=click.Path())
@net_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(model: str, as_json: bool, **options: Any) -> None:
    """Show the layers of MODEL: output shapes, parameters and multiply-adds."""
    from caffe2torch import api
    from caffe2torch.finite import warn_not_finite
    from caffe2torch.summary import summary

    weights = weights_of(model, options)
    graph = api.read(weights, **options)
    warn_not_finite(graph)
    table = summary(graph)
    if as_json:
        click.echo(json.dumps(table, indent=1))
        return
    rows = [
        (
            r["name"],
            r["type"],
            _shapes(r["output_shapes"]),
            f"{r['parameters']:,}",
            f"{r['multiply_adds']:,}",
        )
        for r in table["layers"]
    ]
    print_table(("layer", "type", "output", "parameters", "multiply-adds"), rows)
    click.echo(
        f"total: {table['parameters']:,} parameters, {table['multiply_adds']:,} multiply-adds"
    )


def _shapes(shapes: list[list[int]]) -> str:
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)
