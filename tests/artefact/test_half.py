"""Half precision: half the size, and an error that is that of rounding the weights once."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto
from support import CASES, genuine_squeezenet, run_onnx

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.errors import ArtefactError, Caffe2TorchWarning
from caffe2torch.io.arrays import to_half

NET = CASES / "net_squeezenet_v1_1"
MODEL, PROTOTXT = NET / "net.caffemodel", NET / "net.prototxt"
ROUNDED = pytest.warns(Caffe2TorchWarning, match="rounded to half precision; they are widened")

ERROR = 2e-3
"""Of the peak. Each weight is off by 2^-12 (2.4e-4) of itself on average; over the 26
convolutions of a SqueezeNet the errors add like random ones. Measured: 4e-4."""


def net_input() -> np.ndarray:
    with np.load(NET / "io.npz") as file:
        return file["in/data"]


def run(path: Path, x: np.ndarray) -> np.ndarray:
    """The outputs of any kind of file for ``x``."""
    if path.suffix == ".onnx":
        (output,) = run_onnx(path, x).values()
        return output
    with ROUNDED:
        module = caffe2torch.load(path)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_is_half_the_size_and_computes_nearly_the_same(tmp_path: Path, suffix: str) -> None:
    plain = caffe2torch.convert(MODEL, tmp_path / f"plain{suffix}", PROTOTXT)
    half = caffe2torch.convert(MODEL, tmp_path / f"half{suffix}", PROTOTXT, half=True)
    arrays = caffe2torch.read(MODEL, PROTOTXT).params.values()
    saved = plain.stat().st_size - half.stat().st_size
    # The form of ONNX has a few Casts more, of about 100 bytes.
    assert abs(2 * sum(a.size for a in arrays) - saved) <= 500
    with torch.no_grad():
        expected = caffe2torch.load(MODEL, PROTOTXT)(torch.from_numpy(net_input())).numpy()
    difference = np.abs(run(half, net_input()) - expected).max() / np.abs(expected).max()
    assert 0 < difference < ERROR


def test_all_forms_hold_the_same_rounded_weights(tmp_path: Path) -> None:
    graph = caffe2torch.read(MODEL, PROTOTXT)
    expected = {key: array.astype(np.float16) for key, array in graph.params.items()}
    for suffix in (".pt", ".safetensors"):
        path = caffe2torch.convert(MODEL, tmp_path / f"half{suffix}", PROTOTXT, half=True)
        with ROUNDED:
            again = caffe2torch.read(path)
        for key, array in expected.items():
            np.testing.assert_array_equal(again.params[key], array.astype(np.float32))
    path = caffe2torch.convert(MODEL, tmp_path / "half.onnx", PROTOTXT, half=True)
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    for key, array in expected.items():
        np.testing.assert_array_equal(stored[key], array)


def test_the_onnx_file_keeps_its_inputs_and_outputs(tmp_path: Path) -> None:
    path = caffe2torch.convert(MODEL, tmp_path / "half.onnx", PROTOTXT, half=True)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert run(path, np.concatenate([net_input()] * 3)).shape[0] == 3 * len(net_input())


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_a_value_beyond_65504_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    from caffe2torch.artefact.write import write_graph

    graph = caffe2torch.read(MODEL, PROTOTXT)
    key = list(graph.params)[3]
    large = graph.params[key].copy()
    large.flat[1] = -65520
    graph = replace(graph, params={**graph.params, key: large})
    target = tmp_path / f"out{suffix}"
    with pytest.raises(ArtefactError, match=rf"'{key}' holds -65520.*65504.*without --half"):
        write_graph(graph, target, half=True)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_value_and_what_is_infinite_already_stay() -> None:
    values = np.array([65504, -65519, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(to_half({"k": values})["k"], [65504, -65504, np.inf, np.nan])


def test_the_command_and_the_warning(tmp_path: Path) -> None:
    arguments = ["convert", str(MODEL), str(tmp_path / "h.pt"), "--prototxt", str(PROTOTXT)]
    result = CliRunner().invoke(main, [*arguments, "--half"])
    assert result.exit_code == 0, result.output
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = CliRunner().invoke(main, ["inspect", str(tmp_path / "h.pt")])
    assert "Warning: " in result.output
    assert "widened to float32" in result.output


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_genuine_squeezenet_in_half(tmp_path: Path, version: str) -> None:
    model = genuine_squeezenet(version)
    half = caffe2torch.convert(model, tmp_path / "half.onnx", half=True)
    assert half.stat().st_size < 0.53 * model.stat().st_size
    x = np.random.default_rng(0).standard_normal((1, 3, 227, 227)).astype(np.float32) * 50
    with torch.no_grad():
        expected = caffe2torch.load(model)(torch.from_numpy(x)).numpy()
    assert np.abs(run(half, x) - expected).max() < ERROR * np.abs(expected).max()
