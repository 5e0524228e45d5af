"""Net.forward against the recorded nets of genuine Caffe, every blob of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import CASE_NAMES, CASES, NEAR_ZERO, OF_NET, assert_close, recorded

import caffe2torch.pycaffe as caffe

BEFORE_IN_PLACE = {"alias_reshape_then_inplace", "ssd_permute_identity_then_inplace"}
"""Recorded layer by layer: at the end of a pass, the first blob has the change of its alias."""


def test_every_blob_of_the_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    failed, count = [], 0
    for name in CASE_NAMES:
        folder = CASES / name
        case = json.loads((folder / "case.json").read_text())
        weights = folder / (case["weights_file"] or "net.prototxt")
        if case["expect"] != "ok" or not weights.exists() or name in BEFORE_IN_PLACE:
            continue
        monkeypatch.chdir(folder)
        failed += [f"{name}: {fault}" for fault in faults_of(folder, case)]
        count += 1
    assert count > 300
    assert not failed, "\n".join(failed)


def faults_of(folder: Path, case: dict[str, str]) -> list[str]:
    phase = getattr(caffe, case["phase"])
    net = caffe.Net("net.prototxt", phase, case["level"], case["stages"], case["weights_file"])
    arrays = recorded(folder.name)
    for name, value in arrays.inputs.items():
        net.blobs[name].reshape(*value.shape)
        net.blobs[name].data[...] = value
    net.forward()
    faults = []
    for name, value in {**arrays.outputs, **arrays.middle}.items():
        try:
            actual = net.blobs[name].data
            assert_close(actual, value, OF_NET, absolute=NEAR_ZERO, what=name)
        except AssertionError as error:
            faults.append(str(error))
    return faults
