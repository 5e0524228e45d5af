from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import CASES

from caffe2torch.errors import ReadError
from caffe2torch.io.caffemodel import Weights, read_caffemodel
from caffe2torch.io.hdf5 import ABSENT

h5py = pytest.importorskip("h5py", reason="h5py, the extra 'hdf5', is not installed")

SMALL = np.arange(6, dtype="<f4").reshape(2, 3)


def snapshot(path: Path, fill: Callable[[Any], None]) -> Weights:
    with h5py.File(path, "w") as file:
        fill(file)
    return read_caffemodel(path)


def names(weights: Weights) -> list[str]:
    return [layer.name for layer in weights.net.layer]


def test_snapshot_of_caffe() -> None:
    weights = read_caffemodel(CASES / "bin_hdf5" / "net.caffemodel.h5")
    arrays = dict(zip(names(weights), weights.blobs, strict=True))
    assert {name: [blob.shape for blob in blobs] for name, blobs in arrays.items()} == {
        "conv1": [(4, 3, 3, 3), (4,)],
        "fc": [(3, 60), (3,)],
        "data": [],
        "r": [],
    }
    with h5py.File(CASES / "bin_hdf5" / "net.caffemodel.h5") as file:
        expected = file["data/conv1/0"][()]
    assert arrays["conv1"][0].data.tobytes() == expected.tobytes()


def test_names_with_slashes_and_more_than_ten_arrays(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for index in range(12):
            file[f"data/block/a/conv/{index}"] = SMALL + index
        file["data/block/0"] = SMALL[0]
        file.create_group("data/block/relu")

    weights = snapshot(tmp_path / "x", fill)
    assert sorted(names(weights)) == ["block", "block/a/conv", "block/relu"]
    blobs = weights.blobs[names(weights).index("block/a/conv")]
    assert [blob.data[0] for blob in blobs] == list(range(12))


def test_kinds_of_numbers(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        for index, kind in enumerate(["<f2", ">f4", "<f8"]):
            file[f"data/a/{index}"] = SMALL.astype(kind)
        file["data/a/3"] = np.float32(2.5)

    (blobs,) = snapshot(tmp_path / "x", fill).blobs
    assert [blob.data.dtype.str for blob in blobs] == ["<f2", "<f4", "<f8", "<f4"]
    assert all(blob.data.tolist() == list(range(6)) for blob in blobs[:3])
    assert blobs[3].shape == ()


def test_shared_arrays_are_hard_links_or_absent(tmp_path: Path) -> None:
    def fill(file: Any) -> None:
        file["data/a/0"] = SMALL
        file["data/b/0"] = file["data/a/0"]
        file["data/c/1"] = SMALL[1]
        file.create_group("data/d")

    weights = snapshot(tmp_path / "x", fill)
    assert names(weights) == ["a", "b", "c", "d"]
    assert weights.blobs[1][0].data.tolist() == list(range(6))
    assert weights.blobs[2][0] is ABSENT
    assert weights.blobs[2][1].data.tolist() == [3, 4, 5]
    assert weights.blobs[3] == []


def add(name: str, value: Any) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        file[name] = value

    return fill


def circle(file: Any) -> None:
    file.create_group("data/a")
    file["data/a/b"] = file["data/a"]


def huge(file: Any) -> None:
    file.create_dataset("data/a/0", (1 << 40,), "<f4", chunks=(1024,))


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((3,), "<f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "x", (3,))
    file.create_virtual_dataset("data/a/0", layout)


def external(file: Any) -> None:
    file.create_dataset("data/a/0", (3,), "<f4", external=[("/etc/hostname", 0, 12)])


@pytest.mark.parametrize(
    ("fill", "cause"),
    [
        (add("other", SMALL), "no group 'data'"),
        (add("data", SMALL), "no group 'data'"),
        (add("data/a/kernel", SMALL), r"arrays of layer 'a' are \['kernel'\]"),
        (add("data/a/99999", SMALL), "Caffe names them 0, 1, 2"),
        (add("data/a/5000", SMALL), "layer 'a' has 5001 arrays"),
        (add("data/a/0", np.arange(3)), "layer 'a', blob 0 is of the type int64"),
        (add("data/a/0", "text"), "blob 0 is of the type object"),
        (add("data/a/0", h5py.ExternalLink("/etc/hostname", "x")), "is a link to elsewhere"),
        (add("data/a/0", h5py.SoftLink("/data")), "is a link to elsewhere"),
        (circle, "nested too deeply"),
        (huge, "far more than the file's"),
        (virtual, "lies in another file"),
        (external, "lies in another file"),
    ],
)
def test_refused(fill: Callable[[Any], None], cause: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=cause) as caught:
        snapshot(tmp_path / "x.h5", fill)
    assert str(caught.value).startswith(f"{tmp_path / 'x.h5'}: ")


def test_truncated_anywhere(tmp_path: Path) -> None:
    data = (CASES / "bin_hdf5" / "net.caffemodel.h5").read_bytes()
    for end in [*range(8, 600, 37), *range(600, len(data), 997)]:
        (tmp_path / "x").write_bytes(data[:end])
        with pytest.raises(ReadError, match="truncated or corrupt"):
            read_caffemodel(tmp_path / "x")


def test_without_h5py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ReadError, match=r'pip install "caffe2torch\[hdf5\]"'):
        read_caffemodel(CASES / "bin_hdf5" / "net.caffemodel.h5")
