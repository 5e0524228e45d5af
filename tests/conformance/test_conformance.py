"""Every net of the corpus, through both lowerings, against what genuine Caffe computed."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import caffe2torch
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.parent.name for path in CASES.glob("*/case.json"))
LAYER_TOLERANCE = 2e-5
"""Of the peak, for nets of a few layers; the corpus' own advice."""
NET_TOLERANCE = 1e-4
"""Of the peak, for whole networks."""
WHOLE = ("net_", "qr_", "ssd_mini")


def case_of(name: str) -> dict[str, Any]:
    return json.loads((CASES / name / "case.json").read_text())


@pytest.fixture
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = CASES / request.param
    monkeypatch.chdir(path)
    return path


def weights_of(case: dict[str, Any]) -> Path | None:
    name = case["weights_file"]
    if name is None:
        return None
    if "wechat_qr" in name:
        models = os.environ.get("CAFFE2TORCH_TEST_MODELS")
        if not models:
            pytest.skip("needs the genuine weights: set CAFFE2TORCH_TEST_MODELS")
        return Path(models) / "wechat_qr" / Path(name).name
    return Path(name)


def read(case: dict[str, Any]) -> caffe2torch.Graph:
    with warnings.catch_warnings():
        # Missing and unused weights are the point of some cases.
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        return caffe2torch.read(
            weights_of(case),
            "net.prototxt",
            phase=case["phase"],
            level=case["level"],
            stages=case["stages"],
            allow_missing=case.get("quirk") == "missing_layer_filler",
        )


@pytest.mark.parametrize(
    "folder", [n for n in NAMES if case_of(n)["expect"] == "ok"], indirect=True
)
def test_case(folder: Path) -> None:
    case = case_of(folder.name)
    graph = read(case)
    with np.load("io.npz") as file:
        arrays = {key: file[key] for key in file.files}
    inputs = {key[3:]: value for key, value in arrays.items() if key.startswith("in/")}
    outputs = {key[4:]: value for key, value in arrays.items() if key.startswith("out/")}
    middle = {key[4:]: value for key, value in arrays.items() if key.startswith("mid/")}
    aliased = set(case.get("aliased", []))
    assert list(graph.outputs) == sorted(outputs, key=str.encode)
    tolerance = NET_TOLERANCE if folder.name.startswith(WHOLE) else LAYER_TOLERANCE

    feed = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.no_grad():
        blobs = {name: value.numpy() for name, value in to_torch(graph).blobs(feed).items()}
    for name, expected in {**middle, **outputs}.items():
        if name not in aliased:
            check(blobs[name], expected, tolerance, f"torch {name}")

    for name, value in run_onnx(graph, inputs).items():
        check(value, outputs[name], tolerance, f"onnx {name}")


@pytest.mark.parametrize(
    "folder", [n for n in NAMES if case_of(n)["expect"] == "error"], indirect=True
)
def test_refused(folder: Path) -> None:
    case = case_of(folder.name)
    with pytest.raises(caffe2torch.Caffe2TorchError) as caught:
        build_and_run(case)
    if folder.name != "err_layer_and_layers":
        assert caught.value.layer is not None


def test_every_case_is_run() -> None:
    assert len(NAMES) == 367


def build_and_run(case: dict[str, Any]) -> None:
    module = to_torch(read(case))
    with np.load("io.npz") as file:
        module({k[3:]: torch.from_numpy(file[k]) for k in file.files if k.startswith("in/")})


def run_onnx(graph: caffe2torch.Graph, inputs: dict[str, Any]) -> dict[str, Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        complete(to_onnx(graph)).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    assert [i.name for i in session.get_inputs()] == [i.name for i in graph.inputs]
    return dict(zip(graph.outputs, session.run(names, inputs), strict=True))


def check(value: Any, expected: Any, tolerance: float, what: str) -> None:
    assert value.shape == expected.shape, what
    usual = np.abs(expected) < np.finfo(np.float32).max
    np.testing.assert_array_equal(value[~usual], expected[~usual], what)
    peak = np.abs(expected[usual]).max(initial=0)
    worst = np.abs(value[usual] - expected[usual]).max(initial=0)
    assert worst <= tolerance * peak + 1e-6, f"{what}: {worst} of peak {peak}"


def test_cases_are_not_touched(tmp_path: Path) -> None:
    copy = shutil.copytree(CASES / "conv_hw", tmp_path / "c")
    before = sorted(path.name for path in copy.iterdir())
    caffe2torch.read(copy / "net.caffemodel", copy / "net.prototxt")
    assert sorted(path.name for path in copy.iterdir()) == before
