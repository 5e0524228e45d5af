"""Weights that Caffe saved describe their own net: no prototxt is needed."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support import CASES, NEAR_ZERO, OF_NET, assert_close, recorded

import caffe2torch


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
    inputs, expected, _ = recorded(name)
    feed = {blob: torch.from_numpy(value) for blob, value in inputs.items()}
    with torch.no_grad():
        blobs = module.blobs(feed)
    assert set(module.output_names) == set(expected)
    for blob, value in expected.items():
        assert_close(blobs[blob].numpy(), value, OF_NET, absolute=NEAR_ZERO, what=blob)
