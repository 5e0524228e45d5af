"""The format of artefacts: whose keys they have, files of version 1, and a kind of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import caffe2torch
from caffe2torch.artefact.read import read_artefact
from caffe2torch.artefact.safetensors import write_safetensors
from caffe2torch.artefact.write import (
    _registry,
    metadata_of,
    register_writer,
    suffixes,
    write_graph,
)
from caffe2torch.graph import Graph
from caffe2torch.pipeline import restore_graph
from caffe2torch.preprocessing import Preprocessing
from squeezenet import SqueezeNet, load_pretrained
from squeezenet.export import graph_of
from squeezenet.recognise import recognise


@pytest.fixture
def squeezenet() -> Graph:
    """A SqueezeNet of 3 classes whose keys are not those of the model."""
    torch.manual_seed(0)
    graph = graph_of(SqueezeNet("1.1", num_classes=3), 67)
    net = graph.net
    for layer in net.layer:
        layer.name = f"my_{layer.name}"
    params = {f"my_{key}": array for key, array in graph.params.items()}
    return restore_graph(net, params, "TEST")


def written_by_version_1(graph: Graph, path: Path) -> None:
    """What docs/artefacts.md said of version 1: the model's keys, and a map from the net's."""
    spec = recognise(graph)
    assert spec is not None
    metadata = {
        **metadata_of(graph),
        "format_version": 1,
        "architecture": SqueezeNet("1.1", num_classes=3).architecture,
        "params": dict(spec.params),
    }
    with path.open("wb") as file:
        params = {spec.params[key]: array for key, array in graph.params.items()}
        write_safetensors(file, params, metadata)


def test_version_1_is_read(squeezenet: Graph, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    written_by_version_1(squeezenet, path)
    again = caffe2torch.read(path)
    assert again.params.keys() == squeezenet.params.keys()
    model = load_pretrained("1.1", path)
    for key, array in squeezenet.params.items():
        np.testing.assert_array_equal(again.params[key], array)
        np.testing.assert_array_equal(model.state_dict()[key.removeprefix("my_")].numpy(), array)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_keys_are_the_nets_and_the_model_knows_them(
    squeezenet: Graph, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"net{suffix}"
    write_graph(squeezenet, path)
    metadata, params = read_artefact(path)
    assert set(params) == set(squeezenet.params)
    assert metadata["format_version"] == 2
    assert not {"architecture", "params"} & set(metadata)
    state = load_pretrained("1.1", path).state_dict()
    for key, array in squeezenet.params.items():
        np.testing.assert_array_equal(state[key.removeprefix("my_")].numpy(), array)


def test_the_metadata_of_an_onnx_names_what_is_in_it(squeezenet: Graph, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write_graph(squeezenet, path)
    model = onnx.load(path)
    (text,) = (entry.value for entry in model.metadata_props if entry.key == "caffe2torch")
    assert "params" not in json.loads(text)
    assert {tensor.name for tensor in model.graph.initializer} >= set(squeezenet.params)


def test_a_kind_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suffixes()
    monkeypatch.setattr("caffe2torch.artefact.write._registry", dict(_registry))

    @register_writer(".names")
    def write_names(path: Any, graph: Graph, **_: Any) -> None:
        Path(path).write_text("\n".join(graph.params))

    text = b'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
    text += b'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {'
    text += b' num_output: 5 weight_filler { type: "constant" } } }'
    (tmp_path / "net.prototxt").write_bytes(text)
    path = caffe2torch.convert(None, tmp_path / "o.names", tmp_path / "net.prototxt")
    assert path.read_text() == "fc.weight\nfc.bias"
    with pytest.raises(caffe2torch.ArtefactError, match=r"use one of .*\.names"):
        caffe2torch.convert(None, tmp_path / "o.other", tmp_path / "net.prototxt")


WRONG_RECORDS: dict[str, list[Any]] = {
    "crop_size": ["227", [227], -5, 2.5],
    "resize": ["256", -1],
    "mean": [3, ["104", "117", "123"], [None]],
    "mean_file": [7],
    "scale": ["1", None],
    "std": [["1"], 1],
    "mirror": ["yes"],
    "channel_order": [5, "XYZ", "BG"],
    "protocol": [[], "none"],
}


@pytest.mark.parametrize("name", WRONG_RECORDS)
def test_a_record_of_the_input_with_other_values_is_refused(
    name: str, squeezenet: Graph, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    for value in WRONG_RECORDS[name]:
        record = {**Preprocessing(crop_size=67).to_record(), name: value}
        metadata = {**metadata_of(squeezenet), "preprocessing": record}
        with path.open("wb") as file:
            write_safetensors(file, squeezenet.params, metadata)
        for load in (caffe2torch.read, lambda p: load_pretrained("1.1", weights=p)):
            with pytest.raises(caffe2torch.ArtefactError, match="its metadata is incomplete"):
                load(path)
