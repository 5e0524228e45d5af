"""Consumers by name: one of one's own, added from outside, is written for, checked and run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import helper, numpy_helper
from support import CASES, genuine, genuine_squeezenet

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.consumers import Consumer, _registry, consumer, consumer_names
from caffe2torch.consumers._convert import convert_for

PLUGIN = """
from caffe2torch.consumers import Consumer, register_consumer

class Base(Consumer):
    packages = ("mine==1",)

    def version(self):
        return "1.0"

    def run(self, model, inputs, outputs):
        from caffe2torch.engines.onnxruntime import Session

        print("what a library says of itself")
        return Session(model).run(inputs)

@register_consumer("mine")
class Mine(Base):
    "A runtime of one's own."
    title = "My runtime"
    form = {"static": True, "opset": 15}
    note = "Compile it in float32."
    avoid = "Leave it as it is."
    source = "its manual"
    unread = {"Concat": "it has no memory for that"}

@register_consumer("wrong")
class Wrong(Base):
    title = "Another"

    def run(self, model, inputs, outputs):
        return {name: 2 * value for name, value in super().run(model, inputs, outputs).items()}

@register_consumer("rounding")
class Rounding(Base):
    title = "A half"

    def run(self, model, inputs, outputs):
        return {name: 1.003 * value for name, value in super().run(model, inputs, outputs).items()}

@register_consumer("crashing")
class Crashing(Base):
    title = "A third"

    def run(self, model, inputs, outputs):
        import os

        os._exit(7)

@register_consumer("absent")
class Absent(Wrong):
    title = "A fourth"
    source = "its manual"

    def version(self):
        return None

@register_consumer("absent_unknown")
class AbsentUnknown(Absent):
    must_run = True
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    consumer_names()  # The package's own files are read before the registry is copied.
    monkeypatch.setattr("caffe2torch.consumers._registry", dict(_registry))
    (tmp_path / "own_consumers.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_consumers", raising=False)
    return ["--plugin", "own_consumers"]


def convert(case: str, name: str, *more: str) -> Result:
    files = [str(CASES / case / "net.caffemodel"), "net.onnx"]
    arguments = [*files, "--prototxt", str(CASES / case / "net.prototxt"), "--for", name, *more]
    return CliRunner().invoke(main, ["convert", *arguments])


def test_a_consumer_from_outside(plugin: list[str], tmp_path: Path) -> None:
    result = convert("net_vgg_block", "mine", *plugin)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[:3] == [
        "My runtime 1.0 runs it as ONNX Runtime does.",
        "Compile it in float32.",
        "Leave it as it is.",
    ]
    model = onnx.load(tmp_path / "net.onnx")
    assert model.opset_import[0].version == 15
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value > 0


def test_what_the_user_says_takes_the_place_of_its_form(plugin: list[str], tmp_path: Path) -> None:
    assert convert("net_vgg_block", "mine", "--opset", "18", *plugin).exit_code == 0
    assert onnx.load(tmp_path / "net.onnx").opset_import[0].version == 18


def test_float16_is_held_to_its_own_rounding(plugin: list[str]) -> None:
    assert convert("net_vgg_block", "rounding", *plugin).exit_code == 2
    result = convert("net_vgg_block", "rounding", "--half", *plugin)
    assert result.exit_code == 0, result.output
    assert convert("net_vgg_block", "wrong", "--half", *plugin).exit_code == 2


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("wrong", "Another 1.0 does not run this net rightly: 'prob' differs by "),
        ("crashing", "A third 1.0 does not run this net rightly: its process ended with code 7"),
        ("absent_unknown", "A fourth is not installed here, and what it reads rightly"),
        (
            "mine",
            "layer 'fire2/concat' (Concat): My runtime does not run this net: its ONNX form has "
            "Concat at 'fire2/concat/Concat', and it has no memory for that. End the net",
        ),
    ],
)
def test_a_file_that_is_not_run_rightly_is_not_written(
    name: str, cause: str, plugin: list[str], tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").write_bytes(b"before")
    result = convert("net_squeezenet_v1_1", name, *plugin)
    assert result.exit_code == 2
    assert cause in result.output
    assert "Traceback" not in result.output
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {
        "net.onnx",
        "own_consumers.py",
    }
    assert (tmp_path / "net.onnx").read_bytes() == b"before"


def test_one_that_is_not_installed_is_held_against_its_list(plugin: list[str]) -> None:
    result = convert("net_squeezenet_v1_1", "absent", *plugin)
    assert result.exit_code == 0
    assert "A fourth is not installed here, so it has not run the file" in result.output
    assert "its manual" in result.output


def test_names_and_options_that_do_not_go_together(tmp_path: Path) -> None:
    output = tmp_path / "net.onnx"
    with pytest.raises(caffe2torch.ArtefactError, match=r"known are .*openvino"):
        consumer("none")
    with pytest.raises(caffe2torch.ArtefactError, match="does not exist; make it first"):
        convert_for("openvino", None, tmp_path / "no" / "net.onnx")
    with pytest.raises(caffe2torch.ArtefactError, match="--layout is for"):
        convert_for("openvino", None, output, layout="torchvision")
    assert "openvino" in CliRunner().invoke(main, ["convert", "--help"]).output


@pytest.mark.parametrize("name", consumer_names())
def test_each_says_what_its_user_needs(name: str) -> None:
    chosen = consumer(name)
    assert chosen.name == name
    assert chosen.title
    assert type(chosen).__doc__ != Consumer.__doc__
    assert chosen.load
    assert all("==" in package or package.count("@") for package in chosen.packages)
    for sentence in filter(None, (chosen.note, chosen.avoid)):
        assert sentence.endswith(".")


@pytest.mark.parametrize("name", [n for n in consumer_names() if not consumer(n).must_run])
@pytest.mark.parametrize("net", ["squeezenet", "detector"])
def test_squeezenet_and_the_detector(name: str, net: str, tmp_path: Path) -> None:
    """Written, and run by the consumer where it is installed; or refused by layer and operator."""
    if net == "squeezenet":
        model = genuine_squeezenet("1.1")
        prototxt = model.with_name("deploy.prototxt")
    else:
        model = genuine("MODELS", "wechat_qr", "detect.caffemodel")
        prototxt = model.with_suffix(".prototxt")
    output, lines = tmp_path / f"net{consumer(name).suffix}", list[str]()
    try:
        convert_for(name, model, output, prototxt=prototxt, report=lines.append)
    except caffe2torch.ArtefactError as error:
        if "which is not installed here" in str(error):
            pytest.skip(str(error))
        refusal = error
    else:
        assert output.exists()
        assert any("as ONNX Runtime does" in line or "not installed" in line for line in lines)
        return
    assert (net, output.exists()) == ("detector", False), refusal
    assert refusal.layer is not None


@pytest.mark.parametrize(
    ("rows", "first", "second", "refused"),
    [
        (2, (1, 4), (1, 1), {"openvino"}),
        (1, (1, 4), (1, 1), {"openvino", "tract"}),
        (1, (1, 4), (3, 1), {"tract"}),
        ("N", (1, 1), (1, 1), {"tract"}),
        (1, (2, 4), (3, 2), set()),
    ],
)
def test_products_of_a_column(
    rows: int | str, first: tuple[int, int], second: tuple[int, int], refused: set[str]
) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "v"], ["column"], transB=1),
            helper.make_node("Tanh", ["column"], ["t"]),
            helper.make_node("Gemm", ["t", "w"], ["y"], transB=1),
        ],
        "products",
        [helper.make_tensor_value_info("x", 1, (rows, first[1]))],
        [helper.make_tensor_value_info("y", 1, None)],
        [
            numpy_helper.from_array(np.ones(first, np.float32), "v"),
            numpy_helper.from_array(np.ones(second, np.float32), "w"),
        ],
    )
    model = helper.make_model(graph)
    assert {n for n in ("openvino", "tract") if list(consumer(n).doubts(model))} == refused
