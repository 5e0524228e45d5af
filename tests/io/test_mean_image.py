from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wire_bytes as w
from support import CASES

from caffe2torch.errors import ReadError
from caffe2torch.io.blob import read_blob_proto, read_mean

MEAN = np.random.default_rng(3).random((3, 5, 7)).astype("<f4") * 255


@pytest.mark.parametrize("dims", [w.legacy(1, 3, 5, 7), w.shape(1, 3, 5, 7), w.shape(3, 5, 7)])
@pytest.mark.parametrize(("field", "code"), [(5, "f"), (8, "d")])
def test_binaryproto(dims: bytes, field: int, code: str, tmp_path: Path) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(dims + w.packed(field, MEAN.ravel(), code))
    mean = read_mean(tmp_path / "mean.binaryproto")
    assert mean.dtype == np.float32
    assert mean.flags.aligned
    np.testing.assert_array_equal(mean, MEAN)


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "u1"])
def test_npy(kind: str, tmp_path: Path) -> None:
    array = MEAN.astype(kind)
    np.save(tmp_path / "mean.npy", array)
    np.testing.assert_array_equal(read_mean(tmp_path / "mean.npy"), array.astype("f4"))
    np.save(tmp_path / "mean.npy", array[None])
    assert read_mean(tmp_path / "mean.npy").shape == (3, 5, 7)


@pytest.mark.parametrize(
    ("array", "cause"),
    [
        (MEAN[0], r"the shape \(5, 7\); a mean image has"),
        (MEAN[:, :0], r"the shape \(3, 0, 7\)"),
        (np.stack([MEAN, MEAN]), r"the shape \(2, 3, 5, 7\)"),
        (MEAN.astype("c8"), "holds complex64, not numbers"),
        (np.array([["a"]]), "not numbers"),
        (np.array([{}], object), "truncated or corrupt"),
    ],
)
def test_npy_that_is_no_mean(array: Any, cause: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", array, allow_pickle=True)
    with pytest.raises(ReadError, match=cause):
        read_mean(tmp_path / "mean.npy")


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "whole.npy", MEAN)
    data = (tmp_path / "whole.npy").read_bytes()
    for end in range(6, len(data), 13):
        (tmp_path / "cut.npy").write_bytes(data[:end])
        with pytest.raises(ReadError, match=r"the \.npy file is truncated or corrupt"):
            read_mean(tmp_path / "cut.npy")


def test_blob_of_the_wrong_size(tmp_path: Path) -> None:
    (tmp_path / "mean").write_bytes(w.legacy(1, 3, 5, 7) + w.packed(5, MEAN.ravel()[1:]))
    with pytest.raises(ReadError, match=r"the blob has the shape .* but holds 104"):
        read_mean(tmp_path / "mean")


def test_infogain_matrix() -> None:
    blob = read_blob_proto(CASES / "infogain_source_file" / "infogain.binaryproto")
    assert blob.data.size == np.prod(blob.shape) > 0
