"""A thousand random nets over Caffe's whole catalogue, against what genuine Caffe said of each."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from support import genuine, recorded_in

import caffe2torch
from caffe2torch.artefact.write import write_graph
from caffe2torch.lower.to_torch import to_torch

REFUSED_SHARE = 0.97
"""Of the nets that Caffe refuses. Some it refuses for what is no matter here, as a text that
the very version of protobuf does not take."""


ALIAS = "in place through an alias"
"""Of a refusal: Caffe computes such a net, in which a blob changes behind the author's back."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[golden.Case]:
    folder = tmp_path_factory.mktemp("fuzz")
    with zipfile.ZipFile(genuine("SHARED", "fuzz", "nets.zip")) as archive:
        archive.extractall(folder)
    return [golden.Case(path.parent) for path in sorted(folder.glob("*/case.json"))]


def found_in(cases: Sequence[golden.Case]) -> dict[str, list[str]]:
    found = {Path(case.folder).name: golden.findings(case) for case in cases}
    return {name: lines for name, lines in found.items() if lines}


def test_what_caffe_computes_is_computed(cases: Sequence[golden.Case]) -> None:
    found = found_in([case for case in cases if not case.refused_by_caffe])
    found = {name: lines for name, lines in found.items() if ALIAS not in lines[0]}
    assert not found, golden.table(found)


def test_what_caffe_refuses_is_refused(cases: Sequence[golden.Case]) -> None:
    refused = [case for case in cases if case.refused_by_caffe]
    found = found_in(refused)
    crashes = {name: lines for name, lines in found.items() if lines[0].startswith("crash")}
    assert not crashes, golden.table(crashes)
    assert len(found) <= (1 - REFUSED_SHARE) * len(refused), golden.table(found)


SOURCE_SLICE = 8
"""Every so many of the nets: emitted source is the module's own form, printed."""


def test_emitted_source_computes_the_same(cases: Sequence[golden.Case], tmp_path: Path) -> None:
    expected = {}
    computed = [case for case in cases if not case.refused_by_caffe][::SOURCE_SLICE]
    for case in computed:
        try:
            graph = case.read()
            write_graph(graph, tmp_path / f"{case.folder.name}.py")
        except caffe2torch.UnsupportedLayerError:
            continue
        inputs, name = recorded_in(case.folder).inputs, case.folder.name
        np.savez(tmp_path / f"{name}.in.npz", **{i.name: inputs[i.name] for i in graph.inputs})
        blobs = golden.blobs_of(to_torch(graph), inputs, torch.float32)
        expected[name] = [blobs[blob] for blob in graph.outputs]
    runner = [sys.executable, str(Path(__file__).parent / "run_sources.py"), str(tmp_path)]
    done = subprocess.run(runner, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    found = {}
    for name, arrays in expected.items():
        with np.load(tmp_path / f"{name}.out.npz") as file:
            pairs = zip(file.files, arrays, strict=True)
            found[name] = [
                line for key, array in pairs for line in golden.difference(key, file[key], array, 0)
            ]
    assert len(expected) > 50
    assert not any(found.values()), golden.table(found)
