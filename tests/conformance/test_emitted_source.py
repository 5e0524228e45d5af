"""Emitted source of every net of the corpus, run where caffe2torch cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import CASE_NAMES, CASES, NEAR_ZERO, assert_close, recorded
from test_conformance import case_of, read, tolerance_of

from caffe2torch import UnsupportedLayerError
from caffe2torch.artefact.write import write_graph

HERE = Path(__file__).parent
REFUSED = {
    "infogain_source_file": "InfogainLoss",
}
"""The cases without a source form, and the layer type that has none."""


@pytest.mark.slow
def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, refused = {}, {}
    for name in CASE_NAMES:
        case = case_of(name)
        if case["expect"] != "ok":
            continue
        monkeypatch.chdir(CASES / name)
        graph = read(case)
        try:
            write_graph(graph, tmp_path / f"{name}.py")
        except UnsupportedLayerError as error:
            refused[name] = str(error.type)
            continue
        graphs[name] = graph
        inputs = recorded(name).inputs
        np.savez(tmp_path / f"{name}.in.npz", **{i.name: inputs[i.name] for i in graph.inputs})
    monkeypatch.chdir(tmp_path)
    runner = [sys.executable, "-W", "error", str(HERE / "run_sources.py"), str(tmp_path)]
    done = subprocess.run(runner, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    for name, graph in graphs.items():
        expected, tolerance = recorded(name).outputs, tolerance_of(name)
        with np.load(f"{name}.out.npz") as file:
            named = graph.outputs if len(graph.outputs) != 1 else [""]
            assert file.files == [f"{i}:{blob}" for i, blob in enumerate(named)]
            for key, blob in zip(file.files, graph.outputs, strict=True):
                what = f"{name} {blob}"
                assert_close(file[key], expected[blob], tolerance, absolute=NEAR_ZERO, what=what)
    for arguments in (["format", "--check", "--isolated"], ["check", "--isolated"]):
        ruff = subprocess.run(["ruff", *arguments, "."], capture_output=True, text=True)
        assert ruff.returncode == 0, ruff.stdout + ruff.stderr
    assert refused == REFUSED
    assert len(graphs) == 345
