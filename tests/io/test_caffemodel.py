"""Reading files: against protobuf's own parse of them, and what Weights promises."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wire_bytes as w
from support import CASES, genuine

from caffe2torch.errors import ReadError
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import inline_blobs, read_caffemodel
from caffe2torch.io.checksum import OpenedFile, computing
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import message_class
from caffe2torch.passes.draft import Draft
from caffe2torch.passes.parameters import decode_parameters
from caffe2torch.pipeline import run

BINARIES = sorted(CASES.glob("*/net.caffemodel"))


def expected_array(blob: Any) -> np.ndarray[Any, Any]:
    if len(blob.double_data):
        return np.array(blob.double_data, "<f8")
    return np.array(blob.data, "<f4")


def expected_shape(blob: Any) -> tuple[int, ...]:
    if any(blob.HasField(name) for name in ("num", "channels", "height", "width")):
        return (blob.num, blob.channels, blob.height, blob.width)
    return tuple(blob.shape.dim)


def assert_same(blobs: list[Blob], protos: Any) -> None:
    assert len(blobs) == len(protos)
    for blob, proto in zip(blobs, protos, strict=True):
        expected = expected_array(proto)
        assert blob.data.dtype == expected.dtype
        assert blob.data.tobytes() == expected.tobytes()
        assert blob.shape == expected_shape(proto)
        assert blob.legacy == proto.HasField("num")


def drop_unknown(message: Any) -> None:
    """Without what neither a reader nor Caffe looks at."""
    message.DiscardUnknownFields()
    for layer in [*message.layer, *message.layers]:
        layer.ClearField("blobs")
        if message.layers:
            layer.layer.ClearField("blobs")


@pytest.mark.parametrize("path", BINARIES, ids=lambda path: path.parent.name)
def test_same_as_protobufs_parse(path: Path) -> None:
    assert_as_protobuf(path)


def assert_as_protobuf(path: Path) -> None:
    weights = read_caffemodel(path)
    net = message_class("NetParameter").FromString(path.read_bytes())
    layers = net.layer or net.layers
    assert len(layers) == len(weights.blobs)
    for layer, blobs in zip(layers, weights.blobs, strict=True):
        is_v0 = bool(net.layers) and layer.HasField("layer")
        assert_same(blobs, layer.layer.blobs if is_v0 else layer.blobs)
    drop_unknown(net)
    decoded = run((decode_parameters,), Draft(weights.net)).net
    drop_unknown(decoded)
    assert decoded == net


def test_binary_cases_are_there() -> None:
    names = {path.parent.name for path in BINARIES}
    assert {"bin_double_data", "bin_unpacked_floats", "bin_packed_in_chunks"} <= names
    assert {"v0_text_v0_binary", "v1_text_v1_binary", "v2_text_v1_binary_shape"} <= names


def test_genuine_models() -> None:
    for path in sorted(genuine("MODELS").glob("*/*.caffemodel")):
        assert_as_protobuf(path)


def test_sha256_and_path(tmp_path: Path) -> None:
    data = w.layer("c", w.shape(2) + w.packed(5, [0, 1]))
    path = tmp_path / "net.caffemodel"
    path.write_bytes(data)
    weights = read_caffemodel(path)
    path.unlink()
    assert weights.path == str(path)
    assert weights.sha256 == hashlib.sha256(data).hexdigest()


def test_inline_blobs() -> None:
    net = parse_prototxt(
        "layer { name: 'a' blobs { data: [1, 2.5, -3] data: 4 shape { dim: 2 dim: 2 } }"
        " blobs { num: 1 channels: 1 height: 1 width: 1 double_data: 0.1 } }"
        " layer { blobs { shape { dim: 0 } } } layer { }"
    )
    first, second = inline_blobs(net.layer[0])
    assert (first.shape, first.legacy, first.data.tolist()) == ((2, 2), False, [1, 2.5, -3, 4])
    assert (second.shape, second.legacy, second.data.tolist()) == ((1, 1, 1, 1), True, [0.1])
    assert [blob.shape for blob in inline_blobs(net.layer[1])] == [(0,)]
    assert inline_blobs(net.layer[2]) == []


def test_inline_blob_of_wrong_size_and_of_nothing() -> None:
    net = parse_prototxt("layer { name: 'a' blobs { data: 1 shape { dim: 2 } } blobs { } }")
    with pytest.raises(ReadError, match=r"blob 0 of layer 'a' has the shape \(2,\)"):
        inline_blobs(net.layer[0])
    del net.layer[0].blobs[0]
    with pytest.raises(ReadError, match="1 values, but holds 0"):
        inline_blobs(net.layer[0])


def test_a_file_opened_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(w.layer("a", w.shape(2) + w.packed(5, [1, 2])))
    opened = OpenedFile(path)
    with computing(opened.checksum):
        path.rename(tmp_path / "elsewhere")
        weights = read_caffemodel(opened)
    assert weights.sha256 is opened.checksum
    assert weights.path == str(opened) == str(path)
    assert weights.blobs[0][0].data.tolist() == [1, 2]
    with pytest.raises(ReadError, match="there is no such file"):
        OpenedFile(path)
