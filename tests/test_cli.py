"""The command line: what it prints, its exit codes, and no traceback for bad input."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import CASES

from caffe2torch.cli import main
from caffe2torch.layers import all_layers

NET = CASES / "conv_hw"

PLUGIN = '''
"""A layer of one's own."""
from dataclasses import dataclass

from caffe2torch.layers import Layer, register_layer


@register_layer("TimesTwo")
@dataclass(frozen=True)
class TimesTwo(Layer):
    """y = 2 x."""

    type = "TimesTwo"

    def to_torch(self, t, inputs, bottoms):
        return 2 * inputs[0]

    def to_onnx(self, g, inputs):
        return [g.op("Mul", inputs[0], g.const(2.0))]
'''


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_convert(tmp_path: Path) -> None:
    code, output = run(
        "convert", NET / "net.caffemodel", tmp_path / "o.pt", "--prototxt", NET / "net.prototxt"
    )
    assert code == 0, output
    assert (tmp_path / "o.pt").is_file()


def test_inspect_counts() -> None:
    code, output = run(
        "inspect", NET / "net.caffemodel", "--prototxt", NET / "net.prototxt", "--json"
    )
    assert code == 0, output
    table = json.loads(output)
    assert table["parameters"] == 4 * 3 * 3 * 5 + 4
    assert table["multiply_adds"] == 2 * 4 * 4 * 10 * 3 * 3 * 5
    assert run("inspect", NET / "net.caffemodel", "--prototxt", NET / "net.prototxt")[0] == 0


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html>", b"PK\x03\x04", b"\x08\x07\x12", b"\xff" * 64]
)
def test_bad_files_end_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.caffemodel"
    path.write_bytes(content)
    code, output = run("convert", path, tmp_path / "o.onnx")
    assert code == 2
    assert output.startswith("Error: ")
    assert len(output.strip().splitlines()) == 1
    assert not (tmp_path / "o.onnx").exists()


def test_a_missing_file(tmp_path: Path) -> None:
    code, output = run("inspect", tmp_path / "none.caffemodel")
    assert code == 2
    assert "none.caffemodel" in output


def test_layers_lists_every_type() -> None:
    code, output = run("layers", "--json")
    assert code == 0
    rows = {row["type"]: row for row in json.loads(output)}
    assert rows.keys() == all_layers().keys()
    assert rows["Convolution"]["onnx"] == "yes"
    assert rows["Filter"]["torch"] == "yes"


def test_every_layer_file_has_a_test_file() -> None:
    package = Path(__file__).parents[1] / "caffe2torch" / "layers"
    names = {path.stem for path in package.glob("[!_]*.py")}
    tested = {
        path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("layers/test_*.py")
    }
    assert names <= tested


def test_a_plugin_adds_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("caffe2torch.layers._registry", dict(all_layers()))
    Path("times_two_plugin.py").write_text(PLUGIN)
    Path("net.prototxt").write_text(
        'input: "x" input_shape { dim: 2 dim: 3 } '
        'layer { name: "double" type: "TimesTwo" bottom: "x" top: "y" }'
    )
    code, output = run("convert", "net.prototxt", "net.onnx")
    assert code == 2
    assert "TimesTwo" in output
    code, output = run("convert", "net.prototxt", "net.onnx", "--plugin", "times_two_plugin")
    sys.modules.pop("times_two_plugin", None)
    assert code == 0, output


def test_version() -> None:
    code, output = run("--version")
    assert code == 0
    assert "torch" in output


def test_sizes_beyond_any_blob_are_refused() -> None:
    shape = f"data=1,{10**30},7,7"
    code, output = run("inspect", NET / "net.prototxt", "--input-shape", shape, "--allow-missing")
    assert code == 2
    assert "a blob has fewer than 2**31 elements" in output


def test_a_zipped_caffemodel_is_named_with_and_without_its_prototxt(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(NET / "net.caffemodel", "net.caffemodel")
    for more in ((), ("--prototxt", NET / "net.prototxt")):
        code, output = run("inspect", path, *more)
        assert code == 2
        assert f"{path}: is a ZIP archive (unpack it first; " in " ".join(output.split())
