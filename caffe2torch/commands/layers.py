"""caffe2torch layers."""

from __future__ import annotations

import json

import click

from caffe2torch.commands._options import plugin_option
from caffe2torch.commands._output import print_table


@click.command()
@plugin_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def layers(plugins: tuple[str, ...], as_json: bool) -> None:
    """List the supported layer types, for torch, for ONNX and for PyTorch source."""
    from caffe2torch.summary import support

    rows = support()
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    print_table(
        ("layer type", "torch", "onnx", "source", "what it is"),
        [(r["type"], r["torch"], r["onnx"], r["source"], r["summary"]) for r in rows],
    )
