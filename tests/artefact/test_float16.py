"""float16 graphs: near float32, runnable, and float32 where float16 would not do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from golden import Case, table
from onnx import TensorProto, numpy_helper
from support import CASE_NAMES, CASES, genuine, recorded, run_onnx

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.half import IN_HALF, to_float16
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.passes.draft import State
from caffe2torch.pipeline import build_graph

OF_HALF = 2e-3
"""Of the peak: four roundings of 2^-11, which is what whole nets come to."""
OTHER_CHOICE = {
    "v1_zoo": "the argmax of values that float16 makes equal",
    "ssd_mini_ssd": "the order of two boxes with scores of 0.9692 and 0.9691",
}
"""Recorded nets whose outputs are choices that rounding changes."""


def built(text: str) -> caffe2torch.Graph:
    shape = "input_shape { dim: 2 dim: 3 dim: 9 dim: 9 }"
    return build_graph(parse_prototxt(f'input: "x" {shape} {text}', "net"), None, State("TEST"))


def wrong(name: str) -> list[str]:
    graph, record = Case(CASES / name).read(), recorded(name)
    model = complete(to_float16(to_onnx(graph))[0])
    inputs = {i.name: record.inputs[i.name] for i in graph.inputs}
    found = []
    for blob, value in zip(graph.outputs, run_onnx(model, inputs).values(), strict=True):
        expected = record.outputs[blob]
        usual = np.abs(expected) < np.finfo(np.float32).max
        if value.shape != expected.shape:
            found.append(f"{blob}: shape {value.shape}, not {expected.shape}")
            continue
        apart = np.abs(value - expected)[usual].max(initial=0)
        peak = np.abs(expected[usual]).max(initial=0)
        if not apart <= OF_HALF * peak + 1e-6:
            found.append(f"{blob}: {apart} apart, peak {peak}")
    return found


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_recorded_nets_in_float16(step: int) -> None:
    names = [n for n in CASE_NAMES if not n.startswith("qr_")][::step]
    some = [
        n for n in names if not Case(CASES / n).refused_by_caffe and Case(CASES / n).read().outputs
    ]
    found = {name: lines for name in some if (lines := wrong(name)) and name not in OTHER_CHOICE}
    assert not found, table(found)


def test_inputs_and_outputs_are_float32_and_what_is_between_float16() -> None:
    graph = Case(CASES / "net_squeezenet_v1_1").read()
    model, kept = to_float16(to_onnx(graph))
    whole = onnx.shape_inference.infer_shapes(complete(model), strict_mode=True)
    for value in (*whole.graph.input, *whole.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    kinds = {v.name: v.type.tensor_type.elem_type for v in whole.graph.value_info}
    for node in whole.graph.node:
        if node.op_type == "Conv":
            assert kinds.get(node.output[0], TensorProto.FLOAT16) == TensorProto.FLOAT16
    assert {i.data_type for i in whole.graph.initializer} == {TensorProto.FLOAT16}
    assert "prob" in kept
    casts = [n for n in whole.graph.node if n.op_type == "Cast"]
    assert len(casts) <= 3  # In, out, and before what stays.


@pytest.mark.parametrize(
    ("layer", "stays"),
    [
        ('type: "LRN"', True),
        ('type: "Softmax"', True),
        ('type: "Exp"', True),
        ('type: "MVN"', True),
        ('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', True),
        ('type: "Pooling" pooling_param { pool: AVE kernel_size: 3 }', False),
        ('type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 }', False),
        ('type: "ReLU" relu_param { negative_slope: 0.1 }', False),
        ('type: "Power" power_param { scale: 1e6 }', True),
        ('type: "Power" power_param { shift: 1e-9 }', True),
        ('type: "Power" power_param { scale: 0.5 }', False),
    ],
)
def test_which_layers_stay_in_float32(layer: str, stays: bool) -> None:
    model, kept = to_float16(
        to_onnx(built(f'layer {{ name: "a/b" bottom: "x" top: "y" {layer} }}'))
    )
    assert kept == (("a/b",) if stays else ())
    operators = {n.op_type for n in model.skeleton.graph.node} - {"Cast", "Identity"}
    assert stays or operators <= IN_HALF
    x = np.random.default_rng(3).uniform(-2, 2, (2, 3, 9, 9)).astype(np.float32)
    (expected,) = run_onnx(
        complete(to_onnx(built(f'layer {{ name: "a/b" bottom: "x" top: "y" {layer} }}'))), x
    ).values()
    (found,) = run_onnx(complete(model), x).values()
    assert np.abs(found - expected).max() <= OF_HALF * np.abs(expected).max()


def test_a_value_of_both_precisions_is_cast_once() -> None:
    graph = built("""
        layer { name: "r" type: "ReLU" bottom: "x" top: "r" }
        layer { name: "e" type: "Exp" bottom: "r" top: "e" }
        layer { name: "f" type: "Exp" bottom: "r" top: "f" }
        layer { name: "s" type: "Eltwise" bottom: "e" bottom: "f" top: "s" }""")
    model, kept = to_float16(to_onnx(graph))
    assert kept == ("e", "f")
    made = [n.output[0] for n in model.skeleton.graph.node if n.op_type == "Cast"]
    assert len(made) == len(set(made)) == 5  # x, r back, e and f to float16, s back.
    x = np.random.default_rng(3).uniform(-2, 2, (2, 3, 9, 9)).astype(np.float32)
    (found,) = run_onnx(complete(model), x).values()
    np.testing.assert_allclose(found, 2 * np.exp(np.maximum(x, 0)), rtol=OF_HALF)


def test_the_command_says_what_stays_and_what_it_costs(tmp_path: Path) -> None:
    net = CASES / "net_squeezenet_v1_1"
    arguments = ["convert", str(net / "net.caffemodel"), str(tmp_path / "h.onnx"), "--half"]
    result = CliRunner().invoke(main, [*arguments, "--prototxt", str(net / "net.prototxt")])
    assert result.exit_code == 0, result.output
    first, second, _ = result.output.splitlines()
    assert first == "computed in float32: Pooling pool10, Softmax prob"
    distance = float(second.removeprefix("prob: ").partition(" of its peak from float32")[0])
    assert 1e-6 < distance < OF_HALF
    batch = CliRunner().invoke(
        main, [*arguments, "--prototxt", str(net / "net.prototxt"), "--batch", "2"]
    )
    assert batch.exit_code == 0, batch.output


def test_values_beyond_float16_are_told_of(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("""input: "x" input_shape { dim: 1 dim: 2 dim: 3 dim: 4 }
        layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: 30000 } }
        layer { name: "b" type: "Power" bottom: "a" top: "b" power_param { scale: 0.001 } }""")
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / "h.onnx"), "--half"])
    assert result.exit_code == 0, result.output
    assert "b: not the values of float32" in result.output
    assert "65504" in result.output


@pytest.mark.parametrize("optimize", [False, True])
def test_the_detector_in_float16(tmp_path: Path, optimize: bool) -> None:
    folder = genuine("MODELS", "wechat_qr")
    files = folder / "detect.caffemodel", folder / "detect.prototxt"
    record = recorded("qr_one")
    path = caffe2torch.convert(
        files[0], tmp_path / "h.onnx", files[1], half=True, optimize=optimize
    )
    (found,) = run_onnx(path, record.inputs["data"]).values()
    expected = record.outputs["detection_output"]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.01  # Scores and corners reach 1.
    weights = [numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer]
    assert sum(a.nbytes for a in weights if a.dtype == np.float16) > 500_000
