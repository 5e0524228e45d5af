"""Connections: single assignment, refusals of Caffe's own, labels and aliases."""

from __future__ import annotations

import pytest

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import Draft
from caffe2torch.passes.filter_layers import filter_layers
from caffe2torch.passes.naming import module_keys
from caffe2torch.passes.resolve import resolve
from caffe2torch.passes.training_only import leave_out_training
from caffe2torch.pipeline import run

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 } } }'


def net(*layers: str) -> Draft:
    draft = Draft(parse_prototxt("\n".join(layers)))
    return run((filter_layers, leave_out_training, resolve), draft)


def layer(name: str, kind: str, bottoms: str, tops: str, more: str = "") -> str:
    ends = "".join(f' bottom: "{b}"' for b in bottoms.split())
    ends += "".join(f' top: "{t}"' for t in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}"{ends} {more} }}'


def test_the_last_writer_keeps_the_name() -> None:
    found = net(INPUT, layer("a", "TanH", "x", "y"), layer("b", "ReLU", "y", "y"))
    assert [node.outputs for node in found.nodes] == [("y@a",), ("y",)]
    assert found.nodes[1].inputs == ("y@a",)
    assert found.blobs == {"x": "x", "y": "y"}
    assert found.outputs == ("y",)


def test_an_input_keeps_its_name_when_changed_in_place() -> None:
    found = net(INPUT, layer("a", "TanH", "x", "x"))
    assert found.sources[0].outputs == ("x",)
    assert found.blobs == {"x": "x@a"}


def test_outputs_are_in_byte_order_of_their_names() -> None:
    found = net(INPUT, *(layer(n, "TanH", "x", n) for n in ("b", "Z", "a")))
    assert found.outputs == ("Z", "a", "b")


def test_in_place_beside_another_reader_is_refused_as_caffe_does() -> None:
    with pytest.raises(NetError, match="in place although another layer reads it"):
        net(
            INPUT,
            layer("a", "TanH", "x", "y"),
            layer("b", "TanH", "y", "z"),
            layer("c", "ReLU", "y", "y"),
        )


def test_a_read_of_memory_changed_through_an_alias_is_refused() -> None:
    reshape = "reshape_param { shape { dim: 0 dim: 2 dim: 3 } }"
    with pytest.raises(UnsupportedLayerError, match=r"layer 'c'.*'y' in place through an alias"):
        net(
            INPUT,
            layer("a", "TanH", "x", "y"),
            layer("b", "Reshape", "y", "v", reshape),
            layer("c", "ReLU", "v", "v"),
            layer("d", "TanH", "y", "z"),
        )


def test_unknown_parameters_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedLayerError, match=r"layer 'r' \(ReLU\).*relu_params"):
        net(INPUT, layer("r", "ReLU", "x", "y", "relu_params { negative_slope: 1 }"))


def test_module_keys_are_unique_and_free() -> None:
    names = ["fire2/squeeze", "fire2.squeeze", "conv1", "conv1/weight", "train", "a//b"]
    arrays = [["weight"], [], ["weight", "bias"], [], [], []]
    assert module_keys(names, arrays) == [
        "fire2.squeeze",
        "fire2.squeeze_",
        "conv1",
        "conv1.weight_",
        "train_",
        "a._.b",
    ]


IN_PLACE = {
    "ArgMax": "",
    "Convolution": "convolution_param { num_output: 6 kernel_size: 1 }",
    "Crop": "",
    "Eltwise": "eltwise_param { operation: MAX }",
    "InnerProduct": "inner_product_param { num_output: 6 }",
    "LRN": "",
    "Pooling": "pooling_param { kernel_size: 1 }",
    "Slice": "",
    "Tile": "tile_param { tiles: 1 }",
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_a_layer_that_overwrites_what_it_still_reads_is_refused(kind: str) -> None:
    bottoms = "y z" if kind in ("Eltwise", "Crop") else "y"
    tops = "y s" if kind == "Slice" else "y"
    with pytest.raises(UnsupportedLayerError, match="Caffe overwrites what it still reads"):
        net(
            INPUT,
            layer("a", "TanH", "x", "y"),
            layer("b", "TanH", "x", "z"),
            layer("c", kind, bottoms, tops, IN_PLACE[kind]),
        )


def test_a_later_top_is_not_computed_over_its_bottom_either() -> None:
    with pytest.raises(UnsupportedLayerError, match="computes the blob 'z' in place"):
        net(
            INPUT,
            layer("a", "TanH", "x", "y"),
            layer("b", "TanH", "x", "z"),
            layer("c", "Convolution", "y z", "c z", IN_PLACE["Convolution"]),
        )


@pytest.mark.parametrize(
    ("kind", "bottoms", "more"),
    [
        ("Concat", "y", ""),
        ("Eltwise", "y z", "eltwise_param { operation: PROD }"),
        ("LRN", "y", "lrn_param { norm_region: WITHIN_CHANNEL }"),
        ("Permute", "y", "permute_param { order: 0 }"),
        ("Slice", "y", ""),
        ("Softmax", "y", ""),
    ],
)
def test_a_layer_that_has_read_what_it_overwrites_works_in_place(
    kind: str, bottoms: str, more: str
) -> None:
    before = [layer("a", "TanH", "x", "y"), layer("b", "TanH", "x", "z")]
    assert net(INPUT, *before, layer("c", kind, bottoms, "y", more)).blobs["y"] == "y"


def test_an_operand_in_the_memory_that_is_overwritten_is_refused() -> None:
    with pytest.raises(UnsupportedLayerError, match="the same memory as 'z'"):
        net(
            INPUT,
            layer("a", "Split", "x", "y z"),
            layer("b", "Scale", "y z", "y", "scale_param { axis: 0 }"),
        )
