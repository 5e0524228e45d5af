"""Engines by name: one of one's own, added from outside, is compared like those of the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import CASES

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.engines import Job, engine_names, start_engine
from caffe2torch.engines.onnxruntime import Session
from caffe2torch.errors import EngineError, SessionError

NET = CASES / "net_squeezenet_v1_1"
PLUGIN = """
from caffe2torch.engines import Job, register_engine, start_engine
from caffe2torch.errors import EngineError

@register_engine("twice")
class Twice:
    "Runs torch twice, to be sure."

    def __init__(self, job):
        self.both = [start_engine("torch", job) for _ in range(2)]

    def run(self, inputs):
        return {**self.both[0].run(inputs), **self.both[1].run(inputs)}

@register_engine("never")
def never(job):
    raise EngineError("it has no licence")
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    engine_names()  # The package's own files are read before the registry is copied.
    monkeypatch.setattr("caffe2torch.engines._registry", dict(caffe2torch.engines._registry))
    (tmp_path / "own_engines.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_engines", raising=False)
    return "own_engines"


def test_an_engine_from_outside_is_named_run_and_compared(plugin: str, tmp_path: Path) -> None:
    arguments = ["parity", str(NET / "net.caffemodel"), "--prototxt", str(NET / "net.prototxt")]
    arguments += ["--plugin", plugin, "--random", "1", "--json", "report.json"]
    engines = ["--engine", "torch", "--engine", "twice", "--engine", "never"]
    result = CliRunner().invoke(main, [*arguments, *engines])
    assert result.exit_code == 0, result.output
    assert "never was skipped: it has no licence" in result.output
    (pair,) = json.loads((tmp_path / "report.json").read_text())["comparisons"]
    assert (pair["engine"], pair["baseline"], pair["passed"]) == ("twice", "torch", True)
    # Without --engine all run, those from outside included.
    report = caffe2torch.check_parity(NET / "net.caffemodel", NET / "net.prototxt", random=1)
    assert {"onnxruntime", "twice"} <= {c.engine for c in report.comparisons}
    assert {c.baseline for c in report.comparisons} == {"torch"}
    result = CliRunner().invoke(main, ["parity", "--plugin", plugin, "--help"])
    listed = "".join(result.output.split()).partition("--engine[")[2].partition("]")[0].split("|")
    assert listed[:5] == ["torch", "onnxruntime", "opencv", "twice", "never"]
    assert {"openvino", "source", "torch-export", "all"} <= set(listed[5:])


def test_an_unknown_engine_is_refused_with_those_there_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["parity", str(NET / "net.caffemodel"), "--engine", "mnn"])
    assert result.exit_code == 2
    assert "'mnn' is not one of 'torch', 'onnxruntime', 'opencv'" in result.output
    graph = caffe2torch.read(NET / "net.caffemodel", NET / "net.prototxt")
    with pytest.raises(EngineError, match="unknown engine 'mnn'; known are torch, onnxruntime"):
        start_engine("mnn", Job(graph))


@pytest.mark.parametrize("name", ["torch", "onnxruntime", "opencv"])
def test_outputs_alone_are_those_among_every_blob(name: str) -> None:
    files = NET / "net.caffemodel", NET / "net.prototxt"
    graph = caffe2torch.read(*files)
    inputs = {
        i.name: np.random.default_rng(5).standard_normal(i.shape, np.float32) for i in graph.inputs
    }
    try:
        whole = start_engine(name, Job(graph, *files)).run(inputs)
    except EngineError as error:
        pytest.skip(str(error))
    outputs = start_engine(name, Job(graph, *files, every_blob=False)).run(inputs)
    assert set(outputs) <= set(whole)
    for blob in graph.outputs:
        np.testing.assert_array_equal(outputs[blob], whole[blob])


def test_onnxruntimes_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"^ONNX Runtime cannot load the net: [^\n]+$"):
        Session(b"no model")
    with pytest.raises(SessionError, match=r"^ONNX Runtime cannot load the net: [^\n]+$"):
        Session(tmp_path / "none.onnx")
    path = caffe2torch.convert(NET / "net.caffemodel", tmp_path / "net.onnx", NET / "net.prototxt")
    session = Session(path, threads=1)
    (name,) = session.inputs
    with pytest.raises(SessionError, match=r"^ONNX Runtime cannot run the net: [^\n]+$"):
        session.run({name: np.zeros((1, 2), np.float32)})


def test_names_do_not_depend_on_what_was_imported_first() -> None:
    command = (
        "import caffe2torch.engines.opencv; from caffe2torch.engines import engine_names; "
        "print(*engine_names())"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    names = done.stdout.split()
    assert names[:3] == ["torch", "onnxruntime", "opencv"]
    assert names[-4:] == ["source", "torch-float64", "torch-export", "torch-trace"]
    assert engine_names(by_default=True)[:3] == ("torch", "onnxruntime", "opencv")


def test_opencv_is_skipped_where_it_shows_no_blob_by_its_name() -> None:
    net = CASES / "conv_3d"
    arguments = ["parity", str(net / "net.caffemodel"), "--prototxt", str(net / "net.prototxt")]
    result = CliRunner().invoke(main, [*arguments, "--random", "1"])
    assert result.exit_code == 0, result.output
    assert "PASS" in result.output
    if hasattr(pytest.importorskip("cv2").dnn, "readNetFromCaffe"):
        assert "opencv was skipped: OpenCV shows none of the net's blobs" in result.output
