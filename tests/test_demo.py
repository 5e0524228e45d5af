"""caffe2torch demo and the sample model that it runs on."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path

import cv2
import make_digits
import numpy as np
import pytest
from click.testing import CliRunner, Result

from caffe2torch.cli import main
from caffe2torch.engines.onnxruntime import OnnxRuntimeEngine
from caffe2torch.engines.opencv import has_caffe_reader
from caffe2torch.preprocessing import Preprocessing
from squeezenet.cli import main as squeezenet
from squeezenet.demo import find_sample
from squeezenet.weights import load_model

MODELS = Path(__file__).parents[1] / "models"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("a folder")
    return folder, CliRunner().invoke(main, ["demo", "--out", str(folder / "out")])


def test_the_demo_passes_and_leaves_its_files(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    assert result.exit_code == 0, result.output
    engines = 3 if has_caffe_reader() else 2
    assert f"demo: PASS, {engines} engines agree" in result.output
    assert "12 of 12 right" in result.output
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {"squeezenet_digits.pt", "squeezenet_digits.onnx", "report.html"}
    for name, label in find_sample().labels.items():
        (line,) = [line for line in result.output.splitlines() if line.startswith(name)]
        digit = ("zero one two three four five six seven eight nine".split())[label]
        assert line.split()[1] == line.split()[3] == digit


def test_the_commands_that_it_names_run(finished: tuple[Path, Result]) -> None:
    lines = finished[1].output.partition("next:\n")[2].splitlines()
    assert len(lines) == 3
    for line in lines:
        program, *arguments = shlex.split(line)
        if "YOURS.caffemodel" in arguments:
            continue
        group = {"caffe2torch": main, "squeezenet": squeezenet}[program]
        result = CliRunner().invoke(group, arguments)
        assert result.exit_code == 0, (line, result.output)


def test_without_the_report_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffe2torch.parity.report.find_spec", lambda name: None)
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "no HTML report: the HTML report needs jinja2" in result.output
    assert not (tmp_path / "report.html").exists()


def test_with_an_opencv_that_has_no_caffe_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(cv2.dnn, "readNetFromCaffe", raising=False)
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "opencv was skipped" in result.output
    assert "2 engines agree" in result.output


def test_an_engine_that_differs_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = OnnxRuntimeEngine.run

    def wrong(self, inputs):  # type: ignore[no-untyped-def]
        return {name: np.array(value) * 1.01 for name, value in run(self, inputs).items()}

    monkeypatch.setattr(OnnxRuntimeEngine, "run", wrong)
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "demo: FAIL" in result.output


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "file" / "out")])
    assert result.exit_code == 2
    assert "no file can be written into this folder" in result.output.splitlines()[-1]


def test_a_changed_or_missing_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "models"
    shutil.copytree(MODELS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr("squeezenet.demo.models_folder", lambda: copy)
    path = copy / "squeezenet_digits.caffemodel"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "is not the one of this version" in result.output
    path.unlink()
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "the sample model is incomplete" in result.output


def test_the_manifest_is_the_tools() -> None:
    kept = json.loads((MODELS / "squeezenet_digits.json").read_text())
    accuracy = kept["accuracy"]
    measured = {"images": accuracy["count"], "top1": accuracy["top1"], "loss": accuracy["loss"]}
    assert make_digits.manifest(MODELS / kept["file"], measured) == kept


def test_the_manifest_says_what_the_files_are() -> None:
    sample = find_sample()
    manifest = json.loads((MODELS / "squeezenet_digits.json").read_text())
    data = sample.caffemodel.read_bytes()
    assert len(data) == manifest["size"] < 3_000_000
    assert hashlib.sha256(data).hexdigest() == manifest["checksums"]["sha256"]
    accuracy = manifest["accuracy"]
    assert accuracy["count"] == 360
    assert accuracy["top1"] >= 0.97 * accuracy["count"]
    assert manifest["data"]["licence"] == "CC-BY-4.0"
    assert len(sample.labels) == 12
    assert set(sample.labels.values()) == set(range(10))
    assert all((sample.images / name).is_file() for name in sample.labels)
    recorded = Preprocessing.from_record(manifest["preprocessing"])
    assert load_model(sample.caffemodel).model.preprocessing == recorded


def test_a_folder_that_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "file")])
    assert result.exit_code == 2
    assert "no file can be written into this folder: Not a directory" in result.output
