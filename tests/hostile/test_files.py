"""Files of another kind and damaged files, through the command line: one line, exit code 2."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import wire_bytes as w
from click.testing import CliRunner
from support import CASES

from caffe2torch.cli import main
from squeezenet.cli import main as squeezenet

NET = CASES / "conv_hw"


def refused(folder: Path, *arguments: object, output: str | None = None, command=main) -> str:
    """The one line in which a command refuses its input; nothing may be left behind."""
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    lines = [line for line in result.output.splitlines() if not line.startswith("Warning")]
    assert len(lines) == 1, result.output
    assert lines[0].lower().startswith("error: ")
    assert all(character.isprintable() for character in lines[0])
    assert len(lines[0]) < 2200
    assert sorted(folder.rglob("*")) == before
    return lines[0]


def packed(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def onnx_model() -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    return helper.make_model(graph).SerializeToString()


KINDS = {
    "onnx": (onnx_model, "an ONNX model"),
    "zip": (lambda: packed("a.txt", b"x"), "is a ZIP archive (unpack it first"),
    "html": (lambda: b"<!DOCTYPE html>\n<html><head><title>404", "an HTML page"),
    "lfs": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4949168\n",
        "a Git LFS pointer",
    ),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(20), "a gzip archive"),
    "pickle": (lambda: b"\x80\x04\x95\x10" + bytes(20), "a Python pickle"),
    "numpy": (lambda: b"\x93NUMPY\x01\x00" + bytes(20), "a numpy .npy file"),
    "prototxt": (lambda: (NET / "net.prototxt").read_bytes(), "is it a prototxt?"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named(tmp_path: Path, kind: str) -> None:
    make, cause = KINDS[kind]
    path = tmp_path / "net.caffemodel"
    path.write_bytes(make())
    assert cause in refused(tmp_path, "convert", path, tmp_path / "o.onnx")


def test_prototxt_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    for kind in ("onnx", "html", "lfs", "gzip", "pickle"):
        make, cause = KINDS[kind]
        path.write_bytes(make())
        assert cause in refused(tmp_path, "inspect", path)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx"])
def test_every_truncation_leaves_no_output(tmp_path: Path, suffix: str) -> None:
    sound = (NET / "net.caffemodel").read_bytes()
    path = tmp_path / "net.caffemodel"
    for length in range(1, len(sound), 97):
        path.write_bytes(sound[:length])
        line = refused(
            *(tmp_path, "convert", path, tmp_path / f"o{suffix}"),
            *("--prototxt", NET / "net.prototxt"),
        )
        assert "net.caffemodel" in line or "layer" in line


def hostile_layer(*blobs: bytes, name: str = "conv") -> bytes:
    return w.layer(name, *blobs)


CLAIMS = {
    "dims whose product overflows": hostile_layer(w.shape(2**32, 2**32, 2**32) + w.packed(5, [1])),
    "a dim of 2**63": hostile_layer(w.shape(2**63) + w.packed(5, [1])),
    "dims of far more values": hostile_layer(w.shape(2**30, 2) + w.packed(5, [1])),
    "a negative dim": hostile_layer(w.shape(-1, 3) + w.packed(5, [1, 2, 3])),
    "a thousand axes": hostile_layer(w.shape(*[1] * 1000) + w.packed(5, [1])),
    "a length past the end": w.tag(100, 2) + w.varint(2**40) + b"x" * 50,
    "a length of 2**64 - 1": w.tag(100, 2) + w.varint(2**64 - 1),
    "a length of 11 bytes": w.tag(100, 2) + b"\xff" * 11,
    "groups in groups": w.layer("a") + w.tag(200, 3) * 5000,
    "half a float": hostile_layer(w.shape(1) + w.message(5, b"abc")),
    "nothing but zeros": bytes(4096),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_that_cannot_be(tmp_path: Path, claim: str) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(CLAIMS[claim])
    assert "net.caffemodel" in refused(tmp_path, "convert", path, tmp_path / "o.pt")


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[2J\x1b]0;x\x07", "a\r", "\u202egnp", "\0", "x" * 100_000, "é\u2028"]
)
def test_names_do_not_reach_the_terminal_as_they_are(tmp_path: Path, name: str) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(w.layer(name, type=name, extra=w.text(3, "x") + w.text(4, "y")))
    assert "not supported" in refused(tmp_path, "inspect", path) or len(name) > 2000
    path.write_bytes(w.layer(name, w.shape(3) + w.packed(5, [1])))
    assert "corrupt" in refused(tmp_path, "inspect", path) or len(name) > 2000


def test_names_in_tables_are_printable(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "x" input_shape { dim: 1 }\n'
        'layer { name: "a\\n\\033[2J" type: "ReLU" bottom: "x" top: "y" }'
    )
    result = CliRunner().invoke(main, ["inspect", str(path)])
    assert result.exit_code == 0
    assert "a\\n\\x1b[2J" in result.output
    assert "\x1b" not in result.output


def test_names_are_no_paths(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    path = folder / "net.prototxt"
    layers = "".join(
        f'layer {{ name: "{name}" type: "ReLU" bottom: "x" top: "x" }}\n'
        for name in ("../../up", "/etc/x", "..", ".", "a\\0b", "con")
    )
    path.write_text(f'name: "../n" input: "x" input_shape {{ dim: 1 dim: 2 }}\n{layers}')
    for suffix in (".pt", ".safetensors", ".onnx"):
        result = CliRunner().invoke(main, ["convert", str(path), str(folder / f"o{suffix}")])
        assert result.exit_code == 0, result.output
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        *("inside", "net.prototxt", "o.onnx", "o.pt", "o.safetensors")
    ]


def test_not_utf8_in_any_string_of_a_binary(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    filler = w.message(106, w.message(7, w.message(1, b"\xff\xfe")))
    path.write_bytes(w.layer("conv", extra=w.text(3, "x") + w.text(4, "y") + filler))
    assert "is not UTF-8" in refused(tmp_path, "inspect", path)


def test_damaged_images_lists_and_solvers(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.jpg\n")
    (tmp_path / "solver.prototxt").write_bytes(b"net: 3")
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04" + bytes(50))
    assert "list.txt:1" in refused(
        *(tmp_path, "train", "--data", tmp_path, "--train-list", "list.txt"), command=squeezenet
    )
    assert "solver.prototxt:1" in refused(
        *(tmp_path, "train", "--solver", tmp_path / "solver.prototxt"),
        command=squeezenet,
    )
    assert "is not a checkpoint" in refused(
        *(tmp_path, "train", "--init-from", tmp_path / "m.pt"), command=squeezenet
    )


@pytest.mark.parametrize("length", [2**40, 2**63 - 1, 2**64 - 1, 100])
def test_safetensors_with_a_long_header(tmp_path: Path, length: int) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{" + b" " * 200)
    refused(tmp_path, "inspect", path)


def test_a_huge_shape_in_an_npy(tmp_path: Path) -> None:
    from caffe2torch.errors import ReadError
    from caffe2torch.io.blob import read_mean

    path = tmp_path / "mean.npy"
    for shape in ((3, 10**6, 10**6), (3, 2**40, 2**40), (-1, 2, 2)):
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        path.write_bytes(file.getvalue() + bytes(48))
        with pytest.raises(ReadError, match="truncated or corrupt"):
            read_mean(path)


def test_too_little_memory_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "x" input_shape { dim: 1 dim: 20000 }\n'
        'layer { name: "f" type: "InnerProduct" bottom: "x" top: "y"\n'
        "  inner_product_param { num_output: 20000 weight_filler { type: 'xavier' } } }"
    )
    code = (
        "import resource, sys\n"
        "import caffe2torch.layers, caffe2torch.artefact.safetensors, squeezenet.recognise\n"
        "from caffe2torch.cli import main\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 29), -1))\n"
        "main(sys.argv[1:])\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not tell a process its size")
    output = tmp_path / "o.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", code, "convert", path, output, "--allow-missing"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: there is not enough memory")
    assert "Traceback" not in done.stderr
    assert not output.exists()
