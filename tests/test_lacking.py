"""``layers --missing``: all that a net lacks at once, with what becomes of it."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from caffe2torch.cli import main
from caffe2torch.lacking import lacking
from caffe2torch.passes.draft import State

NET = b"""
z: 1
layer { name: "d" type: "OddData" top: "x" top: "label" odd_data_param { size: 3 } }
layer { name: "t" type: "Odd" bottom: "x" top: "t" include { phase: TRAIN } }
layer { name: "a" type: "Odd" bottom: "x" top: "a" }
layer { name: "b" type: "Odd" bottom: "a" top: "b" odd_param { } }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" engine: "MKLDNN"
  convolution_param { num_output: 2 kernel_size: 1 relu: true } }
layer { name: "e" type: "Python" bottom: "c" top: "e" python_param { module: "m" layer: "Thing" } }
layer { name: "l" type: "OddLoss" bottom: "c" bottom: "label" top: "l" odd_loss_param { k: 1 } }
"""


def test_all_at_once() -> None:
    rows = lacking(NET)
    assert [tuple(row.values())[:3] for row in rows] == [
        ("type", "Odd", 2),
        ("field", "Convolution convolution_param.relu: true", 1),
        ("field", "the net's z: 1", 1),
        ("type", "Python m.Thing", 1),
        ("field", 'Convolution engine: "MKLDNN"', 1),
        ("type", "OddData", 1),
        ("type", "OddLoss", 1),
    ]
    assert [row["treatment"] for row in rows] == [
        *["refused"] * 4,
        "ignored: which library computes the layer (Intel)",
        "its tops become inputs",
        "left out",
    ]


def test_the_state_and_the_outputs_decide_what_is_in_the_net() -> None:
    assert lacking(NET, State("TRAIN"))[0]["layers"] == 3
    names = [row["name"] for row in lacking(NET, outputs=("a",))]
    assert names == ["the net's z: 1", "Odd", "OddData"]


def test_the_command(tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    net.write_bytes(NET)
    result = CliRunner().invoke(main, ["layers", "--missing", str(net)])
    assert result.exit_code == 1
    assert "type   Python m.Thing" in result.output
    net.write_bytes(NET.replace(b"z: 1", b""))
    result = CliRunner().invoke(main, ["layers", "--missing", str(net), "--until", "x"])
    assert (result.exit_code, "its tops become inputs" in result.output) == (0, True)
    net.write_text('layer { name: "r" type: "ReLU" bottom: "x" top: "r" }')
    result = CliRunner().invoke(main, ["layers", "--missing", str(net)])
    assert (result.exit_code, result.output) == (
        0,
        "every layer type and field of the net is known\n",
    )
