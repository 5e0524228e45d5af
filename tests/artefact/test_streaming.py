"""Weights from the mapped file to the output: the same bytes by every way, whole or refused."""

from __future__ import annotations

import hashlib
import os
import pickle
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from support import CASES, run_onnx

import caffe2torch
from caffe2torch.artefact import onnx as onnx_form
from caffe2torch.artefact.pt import ALIGNMENT
from caffe2torch.io import arrays
from caffe2torch.io.checksum import Checksum
from caffe2torch.io.files import place_in_file

NET = CASES / "net_squeezenet_v1_1"
MODEL, PROTOTXT = NET / "net.caffemodel", NET / "net.prototxt"
KINDS = (".pt", ".safetensors", ".onnx")


def weights_in(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".pt":
        state = torch.load(path, weights_only=True)["state_dict"]
        return {key: tensor.numpy() for key, tensor in state.items()}
    model = onnx.load(path)
    return {
        i.name: onnx.numpy_helper.to_array(i)
        for i in model.graph.initializer
        if not i.name.endswith("/const")
    }


@pytest.mark.parametrize("suffix", KINDS)
def test_from_the_file_and_from_its_memory_alike(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caffe2torch.convert(MODEL, tmp_path / f"a{suffix}", PROTOTXT)

    monkeypatch.setattr(arrays, "place_in_file", lambda array: None)
    caffe2torch.convert(MODEL, tmp_path / f"b{suffix}", PROTOTXT)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    graph = caffe2torch.read(MODEL, PROTOTXT)
    stored = weights_in(tmp_path / f"a{suffix}")
    assert len(stored) >= len(graph.params)
    for key, array in graph.params.items():
        np.testing.assert_array_equal(stored[key], array)


def test_arrays_of_a_caffemodel_are_places_in_the_file() -> None:
    graph = caffe2torch.read(MODEL, PROTOTXT)
    content = MODEL.read_bytes()
    for array in graph.params.values():
        place = place_in_file(array)
        assert place is not None
        assert content[place[1] : place[1] + array.nbytes] == array.tobytes()


@pytest.mark.parametrize("limit", [zipfile.ZIP64_LIMIT, 1000])
def test_pt_is_a_sound_archive_that_torch_maps(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Entries above the limit, 2 GiB, are in the form of ZIP64.
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    path = caffe2torch.convert(MODEL, tmp_path / "net.pt", PROTOTXT)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        for info in archive.infolist():
            with archive.open(info) as entry:
                assert entry._orig_compress_start % ALIGNMENT == 0  # type: ignore[attr-defined]
    mapped = torch.load(path, weights_only=True, mmap=True)["state_dict"]
    for key, array in caffe2torch.read(MODEL, PROTOTXT).params.items():
        assert mapped[key].is_contiguous()
        np.testing.assert_array_equal(mapped[key].numpy(), array)


def test_pt_of_odd_shapes_is_what_torch_saves(tmp_path: Path) -> None:
    from caffe2torch.artefact.pt import write_pt

    rng = np.random.default_rng(0)
    params = {
        "scalar": np.float32(3).reshape(()),
        "empty": np.zeros((0, 3), np.float32),
        "turned": rng.standard_normal((5, 7, 2)).astype(np.float32).transpose(2, 0, 1),
        "spread": rng.standard_normal(12).astype(np.float32)[::3],
        "half": rng.standard_normal((2, 2)).astype(np.float16),
        "name with ü/and\nbreak": np.ones(1, np.float32),
    }
    with open(tmp_path / "a.pt", "wb") as file:
        write_pt(file, params, None)
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(state) == list(params)
    for key, array in params.items():
        assert state[key].numpy().dtype == np.asarray(array).dtype
        np.testing.assert_array_equal(state[key].numpy(), array)
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_large_onnx_has_its_weights_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool, asked: bool
) -> None:
    small = caffe2torch.convert(MODEL, tmp_path / "small.onnx", PROTOTXT, half=half)
    if not asked:
        monkeypatch.setattr(onnx_form, "LARGEST", 10_000)
    large = caffe2torch.convert(
        MODEL, tmp_path / "large.onnx", PROTOTXT, half=half, external_data=asked
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "large.onnx",
        "large.onnx.data",
        "small.onnx",
    ]
    onnx.checker.check_model(str(large), full_check=True)
    model = onnx.load(large, load_external_data=False)
    places = [
        {entry.key: entry.value for entry in i.external_data}
        for i in model.graph.initializer
        if i.data_location == onnx.TensorProto.EXTERNAL
    ]
    assert len(places) == len(caffe2torch.read(MODEL, PROTOTXT).params)
    assert all(place["location"] == "large.onnx.data" for place in places)
    assert all(int(place["offset"]) % onnx_form.ALIGNMENT == 0 for place in places)
    x = np.random.default_rng(0).standard_normal((1, 3, 43, 43)).astype(np.float32)
    (expected,), (actual,) = (run_onnx(path, x).values() for path in (small, large))
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("suffix", KINDS)
def test_output_to_a_pipe(suffix: str, tmp_path: Path) -> None:
    pipe, expected = tmp_path / f"pipe{suffix}", tmp_path / f"file{suffix}"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    caffe2torch.convert(MODEL, pipe, PROTOTXT)
    reader.join()
    caffe2torch.convert(MODEL, expected, PROTOTXT)
    assert received[0] == expected.read_bytes()


@pytest.mark.parametrize("suffix", KINDS)
def test_progress_adds_up_to_the_weights(suffix: str, tmp_path: Path) -> None:
    pieces: list[int] = []
    caffe2torch.convert(MODEL, tmp_path / f"net{suffix}", PROTOTXT, progress=pieces.append)
    params = caffe2torch.read(MODEL, PROTOTXT).params
    assert sum(pieces) == sum(array.nbytes for array in params.values())


@pytest.mark.parametrize("suffix", KINDS)
def test_a_file_that_shrinks_meanwhile_is_refused(suffix: str, tmp_path: Path) -> None:
    model = tmp_path / "net.caffemodel"
    model.write_bytes(MODEL.read_bytes())
    graph = caffe2torch.read(model, PROTOTXT)
    os.truncate(model, 4096)
    from caffe2torch.artefact.write import write_graph

    with pytest.raises(caffe2torch.ReadError, match="changed while it was read"):
        write_graph(graph, tmp_path / f"net{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == ["net.caffemodel"]


def test_pieces_are_copied_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "BUFFER", 1000)
    path = caffe2torch.convert(MODEL, tmp_path / "net.safetensors", PROTOTXT)
    for key, array in caffe2torch.read(MODEL, PROTOTXT).params.items():
        np.testing.assert_array_equal(load_file(path)[key], array)


def test_checksum_is_that_of_the_file_and_survives_pickling(tmp_path: Path) -> None:
    digest = hashlib.sha256(MODEL.read_bytes()).hexdigest()
    graph = caffe2torch.read(MODEL, PROTOTXT)
    assert str(graph.source_sha256) == digest
    assert str(pickle.loads(pickle.dumps(graph.source_sha256))) == digest
    assert graph.source_sha256 == Checksum.known(digest)
    path = caffe2torch.convert(MODEL, tmp_path / "net.safetensors", PROTOTXT)
    with safe_open(path, framework="numpy") as file:
        assert f'"source_sha256": "{digest}"' in file.metadata()["caffe2torch"]
    again = caffe2torch.read(path)
    assert again.source_sha256 == digest


def test_no_thread_outlives_a_conversion(tmp_path: Path) -> None:
    before = threading.active_count()
    caffe2torch.convert(MODEL, tmp_path / "net.safetensors", PROTOTXT)
    assert threading.active_count() == before
    with pytest.raises(caffe2torch.Caffe2TorchError):
        caffe2torch.convert(MODEL, tmp_path / "none" / "net.safetensors", PROTOTXT)
    assert threading.active_count() == before


def test_optimized_onnx_has_no_batch_norm(tmp_path: Path) -> None:
    net = NET.parent / "net_resnet_block"
    for optimize in (False, True):
        path = caffe2torch.convert(
            net / "net.caffemodel",
            tmp_path / f"{optimize}.onnx",
            net / "net.prototxt",
            optimize=optimize,
        )
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert ("BatchNormalization" in kinds) is not optimize
