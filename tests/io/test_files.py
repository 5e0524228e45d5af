from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wire_bytes as w

from caffe2torch.errors import ReadError
from caffe2torch.io.blob import read_blob_proto
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.files import text_of
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import message_class

READERS = [read_caffemodel, read_prototxt, read_blob_proto]

KINDS = {
    b"PK\x03\x04" + bytes(40): "a ZIP archive (unpack it first; PyTorch's .pt",
    b"\x80\x02}q\x00.": "a Python pickle",
    b"\x1f\x8b\x08" + bytes(9): "a gzip archive (unpack it first)",
    b"BZh91AY": "a bzip2 archive (unpack it first)",
    b"\xfd7zXZ\0\0": "an xz archive (unpack it first)",
    b"\x28\xb5\x2f\xfd\x24": "a Zstandard archive (unpack it first)",
    b"7z\xbc\xaf\x27\x1c\0": "a 7z archive (unpack it first)",
    b"Rar!\x1a\x07": "a RAR archive (unpack it first)",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "run 'git lfs pull'",
    b"\n\n <!DOCTYPE html>\n<html>": "an HTML page",
    b"<html><body>404</body></html>": "an HTML page",
    b"\x08\x07\x12\x07pytorch": "an ONNX model",
    b"\x08\xd0\x0f\x12\x04a.ca": "a Caffe solver state",
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("data", KINDS)
def test_other_kinds_are_named(read: Callable[[Path], Any], data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ReadError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: is ")
    assert KINDS[data] in str(caught.value)


@pytest.mark.parametrize("read", READERS)
def test_files_that_cannot_be_read(read: Callable[[Path], Any], tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, cause in {
        "empty": "the file is empty",
        "missing": "there is no such file",
        ".": "is a directory",
        "a\0b": "cannot be opened",
    }.items():
        with pytest.raises(ReadError, match=cause):
            read(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReadError, match="not a regular file"):
        read_caffemodel(tmp_path / "pipe")


def test_prototxt_given_as_caffemodel(tmp_path: Path) -> None:
    for text in ("name: 'x'\nlayer { type: 'ReLU' }", "\nlayer {}", "# comment\n", "x"):
        (tmp_path / "net.prototxt").write_text(text)
        with pytest.raises(ReadError, match="is text, not a binary caffemodel; is it a prototxt"):
            read_caffemodel(tmp_path / "net.prototxt")


def test_caffemodel_given_as_prototxt(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(w.layer("c", w.shape(2) + w.packed(5, [0, 1])))
    with pytest.raises(ReadError, match="binary file, not a prototxt; is it the caffemodel"):
        read_prototxt(tmp_path / "a")


def test_mean_given_as_caffemodel(tmp_path: Path) -> None:
    (tmp_path / "mean").write_bytes(w.legacy(1, 1, 1, 2) + w.packed(5, [0, 1]))
    with pytest.raises(ReadError, match=r"a single blob, as a mean image \(.binaryproto\) is"):
        read_caffemodel(tmp_path / "mean")


def test_solver_state_is_named(tmp_path: Path) -> None:
    state = message_class("SolverState")(iter=90000, learned_net="x.caffemodel")
    (tmp_path / "state").write_bytes(state.SerializeToString())
    with pytest.raises(ReadError, match="a Caffe solver state; the weights are in"):
        read_caffemodel(tmp_path / "state")


TEXT = 'name: "é" layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 } } }'


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-32"),
        *(
            mark + TEXT.encode(mark_of)
            for mark, mark_of in (
                (b"\xfe\xff", "utf-16-be"),
                (b"\0\0\xfe\xff", "utf-32-be"),
            )
        ),
    ],
)
def test_a_text_is_read_in_the_encoding_that_it_says(data: bytes) -> None:
    assert read_prototxt(data).name == "é"
    assert text_of(data, "x") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_of_ascii_needs_no_mark(encoding: str) -> None:
    plain = TEXT.replace("é", "e")
    assert text_of(plain.encode(encoding), "x") == plain
    assert text_of(b"\n", "x") == "\n"


def test_half_a_character_is_refused() -> None:
    with pytest.raises(ReadError) as caught:
        read_prototxt("layer".encode("utf-16")[:-1])
    assert str(caught.value) == (
        "the buffer: is not UTF-16-LE text (byte 10: truncated data); save it in UTF-8"
    )
    with pytest.raises(ReadError, match="x: is not UTF-8 text"):
        text_of(b"caf\xe9", "x")
