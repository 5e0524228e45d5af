"""The compatibility tool: its table, its search for a Python, and its check in this environment."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import pytest

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture(scope="module")
def compat() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compat", TOOLS / "compat.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["compat"] = module
    spec.loader.exec_module(module)
    return module


def test_the_table_shows_failures_and_what_was_not_checked(compat: ModuleType) -> None:
    packages = ("protobuf", "onnx", "onnxruntime", "opencv-python-headless")
    done = {
        "python": "3.12.1",
        "versions": dict.fromkeys(packages, "1.0"),
        "import": True,
        "version": True,
        "onnx": True,
        "torch": None,
        "opencv": "AssertionError: off | by 1",
    }
    results = {"a": done, "b": {"python": "3.99", "error": "this Python is not found"}}
    _, _, first, second = compat.table(results).splitlines()
    assert first == (
        "| a | 3.12.1 | 1.0 | 1.0 | 1.0 | 1.0 | ok | no torch, not checked "
        "| AssertionError: off / by 1 |"
    )
    assert "this Python is not found" in second
    assert compat.table(results).splitlines()[0].count("|") == second.count("|")


def test_pythons_are_found_by_their_version(compat: ModuleType) -> None:
    assert compat.find_python(compat.HERE) == sys.executable
    assert compat.find_python("3.99") is None


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(cv2.dnn, "readNetFromCaffe"), reason="needs OpenCV 4 to record")
def test_the_check_passes_here(tmp_path: Path) -> None:
    record = str(tmp_path / "record.npz")
    for action in ("save", "check"):
        done = subprocess.run(
            [sys.executable, str(TOOLS / "compat_check.py"), action, record],
            capture_output=True,
            text=True,
            check=True,
        )
    result = json.loads(done.stdout.splitlines()[-1])
    parts = {key: result[key] for key in ("import", "version", "onnx", "torch", "opencv")}
    assert parts == dict.fromkeys(parts, True), done.stderr
