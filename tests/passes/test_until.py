"""Nets that end where the caller says, and reads of blobs that another state of the net makes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import genuine

from caffe2torch import api
from caffe2torch.errors import ArtefactError, NetError
from caffe2torch.graph import Graph
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.passes.draft import Options, State
from caffe2torch.pipeline import build_graph

NET = """
layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "TanH" bottom: "x" top: "a" }
layer { name: "r" type: "ReLU" bottom: "a" top: "a" }
layer { name: "s" type: "Slice" bottom: "a" top: "s1" top: "s2" slice_param { slice_point: 1 } }
layer { name: "odd" type: "Odd" bottom: "a" top: "odd" odd_param { size: 3 } }
layer { name: "b" type: "Sigmoid" bottom: "s1" top: "b" }
layer { name: "end" type: "Odder" bottom: "b" bottom: "y" top: "end" }
"""


def until(*outputs: str) -> Graph:
    return build_graph(parse_prototxt(NET), options=Options(outputs=outputs))


def test_what_the_blobs_do_not_need_is_dropped_whatever_it_is() -> None:
    graph = until("b")
    assert [node.layer.name for node in graph.nodes] == ["a", "r", "s", "b"]
    assert graph.outputs == ("b",)
    assert [i.name for i in graph.inputs] == ["x"]


def test_of_a_blob_changed_in_place_the_last_version_counts() -> None:
    graph = until("a")
    assert [node.layer.name for node in graph.nodes] == ["a", "r"]
    assert graph.blobs["a"] == graph.nodes[1].outputs[0]


def test_a_blob_that_another_reads_is_an_output_too() -> None:
    assert until("b", "a").outputs == ("b", "a")


def test_a_blob_that_no_layer_makes_has_near_names() -> None:
    with pytest.raises(NetError, match=r"no layer of the net makes the blob 's3'.*'s2'.*"):
        until("s3")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_artefact_keeps_the_outputs(tmp_path: Path, suffix: str) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text(NET)
    path = api.convert(None, tmp_path / f"out{suffix}", net, outputs=["s1", "a"])
    module = api.load(path)
    assert module.output_names == ("s1", "a")
    found = module(torch.full((2, 3), 0.5))
    assert [tuple(array.shape) for array in found.values()] == [(2, 1), (2, 3)]
    with pytest.raises(ArtefactError, match="converted already"):
        api.read(path, outputs=["a"])


@pytest.mark.parametrize(
    ("rules", "state", "cause"),
    [
        ("include { phase: TRAIN }", State(), "is not in the net in phase TEST, but with --phase"),
        ('include { stage: "fit" }', State(), "but with --stage fit"),
        ("include { min_level: 2 }", State(), "but with --level 2"),
        ("exclude { phase: TEST }", State(), "as its include or exclude rules say"),
        ('exclude { stage: "s" }', State(stages=("s",)), "with the stages s, as its include"),
    ],
)
def test_a_blob_that_a_layer_of_another_state_makes(rules: str, state: State, cause: str) -> None:
    net = parse_prototxt(
        f'layer {{ name: "d" type: "Data" top: "x" {rules} transform_param {{ crop_size: 8 }} }}'
        'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    )
    with pytest.raises(NetError, match=r"layer 'r'.*'x'.*layer 'd' \(Data\), which does") as caught:
        build_graph(net, None, state)
    assert cause in str(caught.value)


def test_a_blob_that_a_later_layer_makes() -> None:
    net = parse_prototxt(
        'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
        'layer { name: "d" type: "Data" top: "x" transform_param { crop_size: 8 } }'
    )
    with pytest.raises(NetError, match="'d', which does, comes later: move it up"):
        build_graph(net)


def test_weights_of_what_is_dropped_are_no_surprise(tmp_path: Path) -> None:
    layer = """layer { name: "%s" type: "InnerProduct" bottom: "x" top: "%s" inner_product_param {
      num_output: 2 weight_filler { type: "constant" value: 1 } } }"""
    net, model = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    net.write_text("\n".join([NET.split("\n")[1], layer % ("a", "a"), layer % ("b", "b")]))
    write_caffemodel(api.read(prototxt=net), model)
    graph = api.read(model, net, outputs=["a"], strict=True)
    assert list(graph.params) == ["a.weight", "a.bias"]


def test_faults_of_sources_and_states() -> None:
    folder = genuine("SHARED", "faults")
    for name, cause in (("phase_hint/net", "--phase TRAIN"), ("wild/train_only_data", "TRAIN")):
        with pytest.raises(NetError, match=cause):
            api.read(prototxt=folder / f"{name}.prototxt")
    with pytest.warns(match="'data' \\(Python voc_layers.VOCSegDataLayer\\) is not known"):
        graph = api.read(
            prototxt=folder / "wild/python_data.prototxt", input_shapes={"data": (1, 3, 4, 5)}
        )
    assert [(i.name, i.shape) for i in graph.inputs] == [("data", (1, 3, 4, 5))]
    with pytest.warns(match="data_param.shuffle"):
        graph = api.read(prototxt=folder / "wild/data_layer_fork_field.prototxt")
    assert [(i.name, i.shape) for i in graph.inputs] == [("data", (1, 3, 8, 8))]


def test_a_blob_of_another_phase_can_be_fed() -> None:
    net = parse_prototxt(
        'layer { name: "d" type: "Data" top: "x" top: "t" include { phase: TRAIN } '
        "transform_param { mean_value: 7 crop_size: 9 } }\n"
        'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
    )
    with pytest.raises(NetError, match="It can be fed: --input-shape x=N,C,H,W"):
        build_graph(net)
    graph = build_graph(net, options=Options(input_shapes={"x": (2, 3, 4, 5)}))
    assert [(i.name, i.shape) for i in graph.inputs] == [("x", (2, 3, 4, 5))]
    assert graph.preprocessing is not None
    assert graph.preprocessing.mean == (7,)
    with pytest.raises(NetError, match="the net has no input 'y'"):
        build_graph(net, options=Options(input_shapes={"x": (2, 3, 4, 5), "y": (1,)}))
