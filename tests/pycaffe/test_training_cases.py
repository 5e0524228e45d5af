"""Solvers of pycaffe on the training cases of genuine Caffe: weights, histories, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import assert_close, training_cases

import caffe2torch.pycaffe as caffe

OF_TRAINING = 1e-4
"""Of a blob's peak after 20 updates, which hand their roundings on."""
NEAR_ZERO = 1e-6
"""Absolute: a bias that starts at 0 and hardly moves."""


def test_training_ends_in_genuine_caffes_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOG_minloglevel", "1")
    failed = []
    for folder in training_cases(tmp_path):
        monkeypatch.chdir(folder)
        case = json.loads((folder / "case.json").read_text())
        if case["expect"] == "refused":
            with pytest.raises(RuntimeError):
                caffe.get_solver("solver.prototxt")
        else:
            failed += [f"{folder.name}: {fault}" for fault in faults_of(folder)]
    assert not failed, "\n".join(failed)


def faults_of(folder: Path) -> list[str]:
    restored = {path: path.read_bytes() for path in folder.glob("snap_iter_10.*")}
    solver = caffe.get_solver("solver.prototxt")
    solver.net.copy_from("init.caffemodel")
    with np.load("expected.npz") as file:
        expected = {key: file[key] for key in file.files}
    assert part(expected, "w20/")
    faults = trained(solver, expected, "w", ((1, 1), (5, 4), (20, 15)))
    if part(expected, "resume/"):
        for path, content in restored.items():  # The first run has written its own.
            path.write_bytes(content)
        solver = caffe.get_solver("solver.prototxt")
        solver.restore("snap_iter_10.solverstate")
        assert solver.iter == 10
        faults += trained(solver, expected, "resume/w", ((11, 1), (15, 4), (20, 5)))
    return faults


def trained(
    solver: Any, expected: dict[str, Any], prefix: str, counts: tuple[tuple[int, int], ...]
) -> list[str]:
    faults = []
    for count, steps in counts:
        solver.step(steps)
        for key, value in part(expected, f"{prefix}{count}/").items():
            layer, index = key.rsplit("/", 1)
            actual = solver.net.params[layer][int(index)].data
            faults += difference(f"{prefix}{count}/{key}", actual, value)
    return faults


def difference(what: str, actual: Any, expected: Any) -> list[str]:
    try:
        assert_close(actual, expected, OF_TRAINING, absolute=NEAR_ZERO, what=what)
    except AssertionError as error:
        return [str(error)]
    return []


def part(arrays: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
