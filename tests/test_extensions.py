"""What another package adds by its entry points, and what the packages of this project add."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import caffe2torch
from caffe2torch import extensions
from caffe2torch.artefact.read import read_artefact
from caffe2torch.cli import main
from caffe2torch.io.deep_compression import CODEBOOK, layer_size

MYNET = '''
"""A package that knows the net of one convolution."""
import click
from caffe2torch.errors import ArtefactError
from caffe2torch.preprocessing import Preprocessing

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape {
  dim: 1 dim: 3 dim: 5 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "constant" value: 2 } } }
"""

@click.command()
@click.argument("word")
def greet(word):
    """Say WORD."""
    click.echo(word)

def layout(graph):
    if graph.name != "mynet":
        raise ArtefactError("no mynet")
    return {key.upper(): array for key, array in graph.params.items()}

def preprocessing(graph):
    return Preprocessing(mean=(1.0, 2.0, 3.0)) if graph.name == "mynet" else None

def nets():
    return {"mynet": NET}
'''
ENTRY_POINTS = """
[caffe2torch.commands]
greet = mynet:greet

[caffe2torch.layouts]
shouting = mynet:layout

[caffe2torch.preprocessing]
mynet = mynet:preprocessing

[caffe2torch.nets]
mynet = mynet:nets
"""


@pytest.fixture
def mynet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The net's prototxt, of a package that is installed for this test alone."""
    folder = tmp_path / "site"
    information = folder / "mynet-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    (folder / "mynet.py").write_text(MYNET)
    monkeypatch.syspath_prepend(folder)
    assert "mynet" not in sys.modules
    yield MYNET.split('NET = """')[1].split('"""')[0]
    sys.modules.pop("mynet", None)


def test_a_command(mynet: str) -> None:
    assert "Of mynet: see caffe2torch greet --help." in CliRunner().invoke(main, ["--help"]).output
    assert "mynet" not in sys.modules
    assert "Say WORD." in CliRunner().invoke(main, ["greet", "--help"]).output
    result = CliRunner().invoke(main, ["greet", "hello"])
    assert (result.exit_code, result.output) == (0, "hello\n")


def test_a_layout(mynet: str, tmp_path: Path) -> None:
    def convert(name: str) -> None:
        (tmp_path / "net.prototxt").write_text(f'name: "{name}"' + mynet)
        caffe2torch.convert(None, tmp_path / "o.pt", tmp_path / "net.prototxt", layout="shouting")

    convert("mynet")
    state = torch.load(tmp_path / "o.pt", weights_only=True)
    assert set(state) == {"CONV.WEIGHT", "CONV.BIAS"}
    with pytest.raises(caffe2torch.ArtefactError, match="no mynet"):
        convert("other")
    assert "shouting" in CliRunner().invoke(main, ["convert", "--help"]).output


def test_a_known_preprocessing(mynet: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text('name: "mynet"' + mynet)
    path = caffe2torch.convert(None, tmp_path / "o.pt", tmp_path / "net.prototxt", input="rgb01")
    weight = read_artefact(path)[1]["conv.weight"]
    given = caffe2torch.convert(
        None, tmp_path / "g.pt", tmp_path / "net.prototxt", input="rgb01", mean=(1, 2, 3)
    )
    assert (weight == read_artefact(given)[1]["conv.weight"]).all()


def test_a_known_net_of_a_deep_compression_file(mynet: str, tmp_path: Path) -> None:
    (tmp_path / "o.net").write_bytes(bytes(layer_size(0, 2)))
    graph = caffe2torch.read(tmp_path / "o.net")
    assert graph.params["conv.weight"].shape == (2, 3, 1, 1)
    (tmp_path / "o.net").write_bytes(bytes(4 * CODEBOOK))
    with pytest.raises(caffe2torch.ReadError, match=r"none of those that are known .*mynet"):
        caffe2torch.read(tmp_path / "o.net")


def test_those_of_this_project() -> None:
    """If it fails: the source tree was installed before an entry point was added."""
    assert {"compress", "demo"} <= set(extensions.names(extensions.COMMANDS))
    assert "torchvision" in extensions.names(extensions.LAYOUTS)
    for group in (extensions.PREPROCESSING, extensions.NETS):
        assert callable(extensions.load(group, "squeezenet"))


def test_names_need_no_import() -> None:
    with pytest.raises(KeyError):
        extensions.load(extensions.COMMANDS, "none")
    assert extensions.names("caffe2torch.none") == ()
