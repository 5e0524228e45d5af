"""Nets and weights given as bytes: the same graph as from files, the same errors."""

from __future__ import annotations

import numpy as np
import pytest
from support import CASES

import caffe2torch


@pytest.mark.parametrize("name", ["conv_hw", "bin_hdf5", "v1_text_v1_binary"])
def test_bytes_give_the_graph_of_the_files(name: str) -> None:
    (model,) = (p for p in (CASES / name).iterdir() if p.suffix in (".caffemodel", ".h5"))
    prototxt = CASES / name / "net.prototxt"
    of_files = caffe2torch.read(model, prototxt)
    of_bytes = caffe2torch.read(model.read_bytes(), prototxt.read_bytes())
    assert of_bytes.definition == of_files.definition
    assert of_bytes.source_sha256 == of_files.source_sha256
    assert of_bytes.params.keys() == of_files.params.keys()
    for key, array in of_files.params.items():
        np.testing.assert_array_equal(of_bytes.params[key], array)


@pytest.mark.parametrize(
    ("model", "prototxt", "message"),
    [
        (b"", None, "the buffer is empty"),
        (b"PK\x03\x04....", None, "the buffer: is a ZIP archive"),
        (None, b"layer {", "the buffer:1"),
        (None, b"name: 'x'", "the buffer:1:1: describes no layers"),
    ],
)
def test_errors_name_the_buffer(model: bytes | None, prototxt: bytes | None, message: str) -> None:
    with pytest.raises(caffe2torch.ReadError, match=message):
        caffe2torch.read(model, prototxt)
