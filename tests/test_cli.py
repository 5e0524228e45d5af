"""The command line: what it prints, its exit codes, and no traceback for bad input."""

from __future__ import annotations

import json
import subprocess
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


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    code, output = run("parity", NET / "net.caffemodel", "--tolerance", number)
    assert code == 2
    assert f"'--tolerance': {number} is not a finite number" in output
    code, output = run("convert", NET / "net.caffemodel", "o.pt", "--mean", f"1,{number},3")
    assert code == 2
    assert f"'1,{number},3' is not one number" in output


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("", None, "the plugin '' is not the name of a module"),
        (".x", None, "the plugin '.x' is not the name of a module"),
        ("bad_syntax", "def (", "cannot import the plugin 'bad_syntax': invalid syntax"),
        ("bad_value", "\nraise KeyError('k')", "KeyError: 'k' ("),
        ("bad_exit", "import sys\nsys.exit(0)", "SystemExit: 0 ("),
    ],
)
def test_a_plugin_that_fails_is_named(
    name: str, content: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(f"{name}.py").write_text(content)
    code, output = run("layers", "--plugin", name)
    assert code == 2
    assert message in output
    assert (f"{name}.py:2)" in output) == (message.endswith("("))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_below_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "caffe2torch", "inspect", NET / "net.caffemodel"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (2, "Error: No space left on device\n")


def test_one_engine_is_told_of(tmp_path: Path) -> None:
    code, output = run("parity", NET / "net.caffemodel", "--engine", "torch")
    assert code == 2
    assert "the only one is torch: give one more (--engine)" in output
