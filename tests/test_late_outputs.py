"""Files that come at the end of long work are refused at its start where they cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from caffe2torch.cli import main
from caffe2torch.errors import ArtefactError
from caffe2torch.io.atomic import check_folder, check_writable

NONE = "cannot be written: No such file or directory"
COMMANDS = [
    ("quantize net.caffemodel none/q.onnx --images images", f"none/q.onnx: {NONE}"),
    ("quantize net.caffemodel q.onnx --images images --json none/q.json", f"none/q.json: {NONE}"),
    ("parity net.caffemodel --json none/p.json", f"none/p.json: {NONE}"),
    ("parity net.caffemodel --report none/p.html", f"none/p.html: {NONE}"),
    ("parity net.caffemodel --junit none/p.xml", f"none/p.xml: {NONE}"),
    ("train --solver solver.prototxt --log-json none/log", f"none/log: {NONE}"),
    (
        "train --solver solver.prototxt --tensorboard file/events",
        "file/events: no file can be written into this folder: Not a directory",
    ),
]


@pytest.mark.parametrize(("line", "message"), COMMANDS)
def test_it_is_said_before_the_work(
    line: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of the files that the commands read is there, which they would say next."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    done = CliRunner().invoke(main, line.split())
    assert done.exit_code == ArtefactError.exit_code
    assert done.stderr.startswith(f"Error: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "file"
    check_writable(file)
    check_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    file.write_text("old")
    check_writable(file)
    check_folder(tmp_path)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
