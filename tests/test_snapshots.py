"""Weights that Caffe saved describe their own net: no prototxt is needed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caffe2torch

CASES = Path(__file__).parent / "conformance" / "cases"


def snapshots() -> list[str]:
    names = []
    for path in sorted(CASES.glob("*/case.json")):
        case: dict[str, Any] = json.loads(path.read_text())
        own = not str(case["weights_file"]).startswith("..")
        if case["expect"] == "ok" and case.get("weights_kind") == "snapshot" and own:
            names.append(path.parent.name)
    return names


@pytest.mark.parametrize("name", snapshots())
def test_the_file_alone_gives_the_outputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES / name)
    case = json.loads(Path("case.json").read_text())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        module = caffe2torch.load("net.caffemodel", phase=case["phase"])
    with np.load("io.npz") as file:
        arrays = {key: file[key] for key in file.files}
    feed = {k[3:]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith("in/")}
    expected = {k[4:]: v for k, v in arrays.items() if k.startswith("out/")}
    with torch.no_grad():
        blobs = module.blobs(feed)
    assert set(module.output_names) == set(expected)
    for blob, value in expected.items():
        usual = np.abs(value) < np.finfo(np.float32).max
        peak = np.abs(value[usual]).max(initial=0)
        worst = np.abs(blobs[blob].numpy() - value)[usual].max(initial=0)
        assert worst <= 1e-4 * peak + 1e-6
