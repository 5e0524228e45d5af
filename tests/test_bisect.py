"""parity --bisect: the layer at fault is named, and its reproducer fails in the same way."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from support import CASES, recorded

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.engines import Job, start_engine
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.layers import all_layers, register_layer
from caffe2torch.layers._base import Layer
from caffe2torch.parity.bisect import with_every_value
from caffe2torch.parity.reproducer import excerpt, write_excerpt

pytestmark = pytest.mark.filterwarnings("ignore:layer .* has no weights")

# Branch "left" is right all the way; "right" goes wrong at the layer under test, in the middle
# of in-place layers, and what follows carries the error on. "late" reads a wrong input rightly.
NET = """
name: "two branches"
input: "x" input_shape { dim: 4 dim: 3 dim: 7 dim: 5 }
layer { name: "stem" type: "Convolution" bottom: "x" top: "stem"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "left" type: "Convolution" bottom: "stem" top: "left"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "left/relu" type: "ReLU" bottom: "left" top: "left" }
layer { name: "right" type: "Convolution" bottom: "stem" top: "right"
  convolution_param { num_output: 6 kernel_size: 1 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "right/scale" type: "Power" bottom: "right" top: "right" power_param { scale: 2 } }
layer { name: "right/%(kind)s" type: "%(type)s" bottom: "right" top: "right" }
layer { name: "right/relu" type: "ReLU" bottom: "right" top: "right" }
layer { name: "sum" type: "Eltwise" bottom: "left" bottom: "right" top: "sum" }
layer { name: "late" type: "TanH" bottom: "sum" top: "late" }
"""


@dataclass(frozen=True)
class OffInOnnx(Layer):
    """y = x + 1, of which the ONNX form adds 1.25."""

    type = "OffInOnnx"
    works_in_place = True

    def to_torch(self, t: Any, inputs: Any, bottoms: Any) -> Any:
        return inputs[0] + 1

    def to_onnx(self, g: Any, inputs: Any) -> Any:
        return [g.op("Add", inputs[0], g.const(1.25))]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe2torch.layers._registry", dict(all_layers()))
    register_layer("OffInOnnx")(OffInOnnx)


def net(folder: Path, kind: str, type_: str) -> tuple[Path, Path]:
    prototxt = folder / "whole.prototxt"
    prototxt.write_text(NET % {"kind": kind, "type": type_})
    graph = caffe2torch.read(None, prototxt, allow_missing=True)
    write_caffemodel(graph, folder / "whole.caffemodel", folder / "again.prototxt")
    return folder / "whole.caffemodel", prototxt


@pytest.mark.usefixtures("plugin")
def test_the_layer_is_named_and_its_reproducer_fails_again(tmp_path: Path) -> None:
    files = net(tmp_path, "odd", "OffInOnnx")
    report = caffe2torch.check_parity(*files, bisect=tmp_path / "found")
    assert report.comparisons[0].first_divergence == "right"
    found = report.bisection
    assert found is not None
    assert found.layers == (("right/odd", "OffInOnnx"),)
    assert (found.baseline, found.engine) == ("torch", "onnxruntime")
    # Not the blob's final version, and nothing downstream of it.
    assert found.blob == "right@right/odd"
    assert found.others == ()
    assert found.max_abs == pytest.approx(0.25, rel=1e-3)
    assert found.reproduced
    assert found.alone == pytest.approx(found.max_abs, rel=1e-3)

    assert found.files is not None
    again = caffe2torch.check_parity(
        found.files.model,
        found.files.prototxt,
        inputs=found.files.inputs,
        reference=found.files.reference,
    )
    assert not again.passed
    figures = {(c.baseline, c.engine): c.blobs[0].max_abs for c in again.comparisons}
    assert figures["reference", "onnxruntime"] == found.alone
    assert figures["torch", "reference"] <= 1e-6
    assert [node.layer.name for node in again.graph.nodes] == ["right/odd"]
    # The batch of four is cut to the item that shows the most.
    assert again.graph.inputs[0].shape == (1, 6, 5, 3)


@pytest.mark.usefixtures("plugin")
def test_the_command_line_prints_a_command_that_fails_again(tmp_path: Path) -> None:
    model, prototxt = net(tmp_path, "odd", "OffInOnnx")
    words = ["parity", str(model), "--prototxt", str(prototxt), "--random", "2"]
    result = CliRunner().invoke(main, [*words, "--bisect", str(tmp_path / "new" / "found")])
    assert result.exit_code == 1, result.output
    assert "right/odd (OffInOnnx)" in result.output
    command = next(line for line in result.output.splitlines() if "caffe2torch parity" in line)
    words = shlex.split(command.removeprefix("bisect: caffe2torch "))
    path = tmp_path / "again.json"
    result = CliRunner().invoke(main, [*words, "--json", str(path)])
    assert result.exit_code == 1, result.output
    again = json.loads(path.read_text())
    assert again["inputs"]["kind"] == "arrays"
    assert {f["role"] for f in again["files"]} == {"model", "prototxt", "inputs", "reference"}
    failed = [c for c in again["comparisons"] if not c["passed"]]
    assert all("onnxruntime" in (c["engine"], c["baseline"]) for c in failed)
    assert failed[0]["blobs"][0]["max_abs"] == pytest.approx(0.25, rel=1e-3)


def test_a_wrong_lowering_with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from caffe2torch.layers.inner_product import InnerProduct

    right = InnerProduct.to_onnx

    def wrong(self: InnerProduct, g: Any, inputs: Any) -> Any:
        (value,) = right(self, g, inputs)
        return [g.op("Mul", value, g.const(1.01))] if self.name == "second" else [value]

    monkeypatch.setattr(InnerProduct, "to_onnx", wrong)
    layers = (("first", "x", 7), ("second", "first", 5), ("third", "second", 3))
    param = 'inner_product_param { num_output: %d weight_filler { type: "xavier" } }'
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        'input: "x" input_shape { dim: 2 dim: 11 }'
        + "".join(
            f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
            f"{param % size} }}"
            for name, bottom, size in layers
        )
    )
    report = caffe2torch.check_parity(
        None, prototxt, allow_missing=True, engines=("torch", "onnxruntime"), bisect=tmp_path / "d"
    )
    found = report.bisection
    assert found is not None
    assert found.layers == (("second", "InnerProduct"),)
    assert found.reproduced
    # OpenCV reads the reproducer too and sides with torch.
    again = caffe2torch.check_parity(
        tmp_path / "d" / "net.caffemodel",
        tmp_path / "d" / "net.prototxt",
        inputs=tmp_path / "d" / "inputs.npz",
        reference=tmp_path / "d" / "reference.npz",
    )
    passed = {(c.baseline, c.engine): c.passed for c in again.comparisons}
    assert passed == {
        ("torch", "onnxruntime"): False,
        ("torch", "opencv"): True,
        ("torch", "reference"): True,
        ("reference", "onnxruntime"): False,
        ("reference", "opencv"): True,
    }


def test_a_record_that_hides_values_names_the_layers_between(tmp_path: Path) -> None:
    """The record has blobs after all in-place layers only, and is wrong at "right"."""
    model, prototxt = net(tmp_path, "tanh", "TanH")
    x = np.random.default_rng(3).standard_normal((4, 3, 7, 5)).astype(np.float32)
    module = caffe2torch.load(model, prototxt)
    import torch

    with torch.no_grad():
        record = {k: v.numpy() for k, v in module.blobs({"x": torch.from_numpy(x)}).items()}
    record["right"] = record["right"] + np.float32(0.5)
    record["sum"] = record["left"] + record["right"]
    record["late"] = np.tanh(record["sum"])
    np.savez(tmp_path / "record.npz", **record)
    report = caffe2torch.check_parity(
        model, prototxt, inputs={"x": x}, reference=tmp_path / "record.npz", bisect=tmp_path / "d"
    )
    found = report.bisection
    assert found is not None
    # The record stands as the baseline, whatever the order of the pair.
    assert (found.baseline, found.engine) == ("reference", "torch")
    assert [name for name, _ in found.layers] == [
        "right", "right/scale", "right/tanh", "right/relu"
    ]  # fmt: skip
    assert found.others == ()
    assert found.alone == pytest.approx(0.5, rel=1e-5)


def test_nothing_is_written_where_engines_agree(tmp_path: Path) -> None:
    report = caffe2torch.check_parity(*net(tmp_path, "tanh", "TanH"), bisect=tmp_path / "d")
    assert report.passed
    assert report.bisection is None
    assert not (tmp_path / "d").exists()


def test_a_difference_that_only_fusion_makes_has_no_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caffe2torch.engines.onnxruntime import OnnxRuntimeEngine

    run = OnnxRuntimeEngine.run

    def fused(self: Any, inputs: Any) -> Any:
        blobs = run(self, inputs)
        if not any("@" in name for name in blobs):
            blobs["late"] = blobs["late"] + np.float32(0.1)
        return blobs

    monkeypatch.setattr(OnnxRuntimeEngine, "run", fused)
    report = caffe2torch.check_parity(*net(tmp_path, "tanh", "TanH"), bisect=tmp_path / "d")
    assert not report.passed
    assert report.bisection is not None
    assert report.bisection.layers == ()
    assert "joins layers" in report.bisection.summary()[0]


@dataclass(frozen=True)
class LessTheMean(Layer):
    """y = x - mean of x over the batch, of which the ONNX form makes 1.5 times as much."""

    type = "LessTheMean"

    def to_torch(self, t: Any, inputs: Any, bottoms: Any) -> Any:
        return inputs[0] - inputs[0].mean(0, keepdim=True)

    def to_onnx(self, g: Any, inputs: Any) -> Any:
        mean = g.op("ReduceMean", inputs[0], axes=[0], keepdims=1)
        return [g.op("Mul", g.op("Sub", inputs[0], mean), g.const(1.5))]


@dataclass(frozen=True)
class Total(Layer):
    """y = the sum of x, of which the ONNX form adds 9."""

    type = "Total"

    def infer_shapes(self, bottoms: Any) -> Any:
        return [()]

    def to_torch(self, t: Any, inputs: Any, bottoms: Any) -> Any:
        return inputs[0].sum()

    def to_onnx(self, g: Any, inputs: Any) -> Any:
        return [g.op("Add", g.op("ReduceSum", inputs[0], keepdims=0), g.const(9.0))]


@pytest.mark.parametrize("layer", [LessTheMean, Total])
def test_a_layer_that_joins_the_batch_keeps_it(
    layer: type[Layer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caffe2torch.layers._registry", dict(all_layers()))
    register_layer(layer.type)(layer)
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        'input: "x" input_shape { dim: 4 dim: 3 } '
        f'layer {{ name: "odd" type: "{layer.type}" bottom: "x" top: "y" }}'
    )
    report = caffe2torch.check_parity(None, prototxt, bisect=tmp_path / "d")
    found = report.bisection
    assert found is not None
    assert found.files is not None
    assert found.reproduced
    assert found.alone == found.max_abs
    again = caffe2torch.check_parity(
        found.files.model,
        found.files.prototxt,
        inputs=found.files.inputs,
        reference=found.files.reference,
    )
    assert again.graph.inputs[0].shape == (4, 3)
    figures = {(c.baseline, c.engine): c.blobs[0].max_abs for c in again.comparisons}
    assert figures["reference", "onnxruntime"] == found.alone
    assert figures["torch", "reference"] == 0


def cases() -> list[Path]:
    found = []
    for path in sorted(CASES.glob("*/case.json")):
        case = json.loads(path.read_text())
        if case["expect"] == "ok" and (path.parent / str(case.get("weights_file"))).is_file():
            found.append(path.parent)
    return found[::8]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::caffe2torch.Caffe2TorchWarning")
@pytest.mark.parametrize("case", cases(), ids=lambda path: path.name)
def test_every_layer_computes_the_same_by_itself(case: Path, tmp_path: Path) -> None:
    """Each layer, written as a reproducer and read again, gives what it gave in the net."""
    facts = json.loads((case / "case.json").read_text())
    graph = caffe2torch.read(
        case / str(facts["weights_file"]),
        case / "net.prototxt",
        phase=facts["phase"],
        level=facts["level"],
        stages=facts["stages"],
    )
    inputs = {name: np.float32(value) for name, value in recorded(case.name).inputs.items()}
    whole = with_every_value(graph)
    values = {**start_engine("torch", Job(whole)).run(inputs), **inputs}
    for node in (node for node in graph.nodes if node.outputs):
        found = excerpt(whole, [node], tuple(dict.fromkeys(node.inputs)), values)
        files = write_excerpt(found, tmp_path)
        report = caffe2torch.check_parity(
            files.model,
            files.prototxt,
            inputs=files.inputs,
            reference=files.reference,
            engines=("torch",),
            phase=graph.phase,
        )
        assert report.passed, node.layer.name
