"""Every net of the corpus, through both lowerings, against what genuine Caffe computed."""

from __future__ import annotations

import json
import shutil
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import (
    CASE_NAMES,
    CASES,
    NEAR_ZERO,
    OF_LAYER,
    OF_NET,
    assert_close,
    genuine,
    recorded,
    run_onnx,
)

import caffe2torch
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.lower.to_torch import to_torch

WHOLE = ("net_", "qr_", "ssd_mini")


def case_of(name: str) -> dict[str, Any]:
    return json.loads((CASES / name / "case.json").read_text())


def tolerance_of(name: str) -> float:
    return OF_NET if name.startswith(WHOLE) else OF_LAYER


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
        return genuine("MODELS", "wechat_qr", Path(name).name)
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
    "folder", [n for n in CASE_NAMES if case_of(n)["expect"] == "ok"], indirect=True
)
def test_case(folder: Path) -> None:
    case = case_of(folder.name)
    graph = read(case)
    inputs, outputs, middle = recorded(folder.name)
    aliased = set(case.get("aliased", []))
    assert list(graph.outputs) == sorted(outputs, key=str.encode)

    check = partial(assert_close, of_peak=tolerance_of(folder.name), absolute=NEAR_ZERO)
    feed = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.no_grad():
        blobs = {name: value.numpy() for name, value in to_torch(graph).blobs(feed).items()}
    for name, expected in {**middle, **outputs}.items():
        if name not in aliased:
            check(blobs[name], expected, what=f"torch {name}")

    model = complete(to_onnx(graph))
    assert [i.name for i in model.graph.input] == [i.name for i in graph.inputs]
    for name, value in zip(graph.outputs, run_onnx(model, inputs).values(), strict=True):
        check(value, outputs[name], what=f"onnx {name}")


@pytest.mark.parametrize(
    "folder", [n for n in CASE_NAMES if case_of(n)["expect"] == "error"], indirect=True
)
def test_refused(folder: Path) -> None:
    case = case_of(folder.name)
    with pytest.raises(caffe2torch.Caffe2TorchError) as caught:
        build_and_run(case)
    if folder.name != "err_layer_and_layers":
        assert caught.value.layer is not None


def test_every_case_is_run() -> None:
    assert len(CASE_NAMES) == 367


def build_and_run(case: dict[str, Any]) -> None:
    module = to_torch(read(case))
    with np.load("io.npz") as file:
        module({k[3:]: torch.from_numpy(file[k]) for k in file.files if k.startswith("in/")})


def test_cases_are_not_touched(tmp_path: Path) -> None:
    copy = shutil.copytree(CASES / "conv_hw", tmp_path / "c")
    before = sorted(path.name for path in copy.iterdir())
    caffe2torch.read(copy / "net.caffemodel", copy / "net.prototxt")
    assert sorted(path.name for path in copy.iterdir()) == before
