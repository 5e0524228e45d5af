"""Damaged bytes end in a ReadError or in the arrays of a sound file, never in anything else."""

from __future__ import annotations

import pytest
import wire_bytes as w
from hypothesis import given, settings
from hypothesis import strategies as st
from support import CASES

from caffe2torch.errors import ReadError
from caffe2torch.io.caffemodel import read_caffemodel, walk
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import message_class

NAMES = (
    "bin_double_data",
    "bin_packed_in_chunks",
    "bin_unknown_fields",
    "bin_unpacked_shape",
    "bin_v1_unpacked_legacy4d",
    "v0_text_v0_binary",
    "snapshot_with_splits",
)
SOUND = [(CASES / name / "net.caffemodel").read_bytes() for name in NAMES]
TEXTS = [(CASES / name / "net.prototxt").read_text() for name in (*NAMES, "syntax_mixed")]
BOUNDED = settings(max_examples=150, deadline=None, derandomize=True)


def check(data: bytes) -> None:
    """Read, and hold what was read to what protobuf says of the same bytes."""
    try:
        net, blobs = walk(data, "x")
    except ReadError:
        return
    whole = message_class("NetParameter")()
    whole.ParseFromString(data)
    assert len(blobs) == len(whole.layer or whole.layers)
    assert [layer.name for layer in net.layer] == [layer.name for layer in whole.layer]
    total = sum(blob.data.nbytes for layer in blobs for blob in layer)
    assert total <= len(data)


@BOUNDED
@given(st.sampled_from(SOUND), st.data())
def test_truncated(data: bytes, draw: st.DataObject) -> None:
    check(data[: draw.draw(st.integers(0, len(data) - 1))] or b"\0")


@BOUNDED
@given(st.sampled_from(SOUND), st.data())
def test_flipped_bits(data: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        # The first bytes of a file hold more structure than the arrays that follow.
        limit = draw.draw(st.sampled_from([64, 512, len(data)]))
        damaged[draw.draw(st.integers(0, min(limit, len(data)) - 1))] ^= 1 << draw.draw(
            st.integers(0, 7)
        )
    check_damaged(bytes(damaged))


def check_damaged(data: bytes) -> None:
    """As ``check``, but protobuf may refuse damage within what Caffe and we do not read."""
    try:
        _, blobs = walk(data, "x")
    except ReadError:
        return
    assert sum(blob.data.nbytes for layer in blobs for blob in layer) <= len(data)


@BOUNDED
@given(st.binary(min_size=1, max_size=300))
def test_random_bytes(data: bytes) -> None:
    check_damaged(data)


@BOUNDED
@given(st.lists(st.binary(max_size=24), max_size=8), st.sampled_from(["", "BN", "ReLU6"]))
def test_random_blobs(blobs: list[bytes], kind: str) -> None:
    check_damaged(w.layer("x", *blobs, type=kind, extra=b"".join(blobs)))


@BOUNDED
@given(st.sampled_from(TEXTS), st.data())
def test_damaged_text(text: str, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(text)))
    end = draw.draw(st.integers(start, min(start + 12, len(text))))
    filling = draw.draw(st.text("{}<>[]:;,'\"#\\ \n\r\0-+.09exaé\ud800", max_size=6))
    damaged = text[:start] + filling + text[end:]
    try:
        parse_prototxt(damaged, "x")
    except ReadError as error:
        str(error).encode()
        place, line, column, _ = str(error).split(":", 3)
        assert (place, line.isdigit(), column.isdigit()) == ("x", True, True)


@BOUNDED
@given(st.data())
def test_damaged_hdf5(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    pytest.importorskip("h5py", reason="h5py, the extra 'hdf5', is not installed")
    damaged = bytearray((CASES / "bin_hdf5" / "net.caffemodel.h5").read_bytes())
    for _ in range(draw.draw(st.integers(1, 3))):
        damaged[draw.draw(st.integers(8, len(damaged) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("hdf5") / "net.h5"
    path.write_bytes(damaged)
    try:
        weights = read_caffemodel(path)
    except ReadError:
        return
    total = sum(blob.data.nbytes for layer in weights.blobs for blob in layer)
    assert total <= 64 * len(damaged)
