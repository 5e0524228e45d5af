"""NetSpec gives the text that pycaffe gives: names, order, where parameters go; and its errors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from caffe2torch.pycaffe.net_spec import (
    Function,
    NetSpec,
    assign_proto,
    layers,
    param_name_dict,
    params,
    to_proto,
)
from caffe2torch.pycaffe.proto import caffe_pb2


def data() -> Any:
    return layers.Input(shape={"dim": [1, 3, 5, 7]})


def shown(net: Any) -> list[tuple[str, str, list[str], list[str]]]:
    return [(x.name, x.type, list(x.bottom), list(x.top)) for x in net.layer]


def test_names_come_from_assignment_and_else_from_counting() -> None:
    n = NetSpec()
    n.x = data()
    a, n.b = layers.Slice(n.x, ntop=2, slice_point=2)
    n["a/relu"] = layers.ReLU(a)
    n.end = layers.Concat(n["a/relu"], layers.ReLU(n.b))
    n.quiet = layers.Silence(n.end, ntop=0)
    assert shown(n.to_proto()) == [
        ("x", "Input", [], ["x"]),
        ("Slice1", "Slice", ["x"], ["Slice1", "b"]),
        ("a/relu", "ReLU", ["Slice1"], ["a/relu"]),
        ("ReLU1", "ReLU", ["b"], ["ReLU1"]),
        ("end", "Concat", ["a/relu", "ReLU1"], ["end"]),
        ("quiet", "Silence", ["end"], []),
    ]
    assert list(n.tops) == ["x", "b", "a/relu", "end", "quiet"]


def test_a_layer_in_place_takes_a_number_and_no_top() -> None:
    conv = layers.Convolution(data(), num_output=2, kernel_size=3)
    relu = layers.ReLU(layers.ReLU(conv, in_place=True), name="own")
    assert shown(relu.to_proto())[1:] == [
        ("Convolution1", "Convolution", ["Input1"], ["Convolution1"]),
        ("ReLU1", "ReLU", ["Convolution1"], ["Convolution1"]),
        ("own", "ReLU", ["Convolution1"], ["ReLU2"]),
    ]


def test_layers_come_once_in_the_order_of_need_and_the_last_name_wins() -> None:
    n = NetSpec()
    n.first = layers.ReLU(data())
    n.second = n.first
    n.sum = layers.Eltwise(n.first, n.second)
    assert shown(n.to_proto()) == [
        ("Input1", "Input", [], ["Input1"]),
        ("second", "ReLU", ["Input1"], ["second"]),
        ("sum", "Eltwise", ["second", "second"], ["sum"]),
    ]


def test_parameters_go_to_the_message_of_the_type_or_to_the_layer() -> None:
    top = layers.Convolution(
        data(),
        num_output=2,
        kernel_size=[3, 5],
        stride=2,
        weight_filler={"type": "gaussian", "std": 0.25},
        param=[{"lr_mult": 1}, {"lr_mult": 2, "decay_mult": 0}],
        include={"phase": caffe_pb2.TEST},
        loss_weight=0.5,
        propagate_down=[True],
        convolution_param={"axis": 1},
    )
    assert str(top.to_proto().layer[1]) == (
        'name: "Convolution1"\ntype: "Convolution"\nbottom: "Input1"\ntop: "Convolution1"\n'
        "loss_weight: 0.5\nparam {\n  lr_mult: 1\n}\nparam {\n  lr_mult: 2\n  decay_mult: 0\n}\n"
        "include {\n  phase: TEST\n}\npropagate_down: true\nconvolution_param {\n"
        "  num_output: 2\n  kernel_size: 3\n  kernel_size: 5\n  stride: 2\n"
        '  weight_filler {\n    type: "gaussian"\n    std: 0.25\n  }\n  axis: 1\n}\n'
    )


def test_enums_are_numbers_or_names() -> None:
    by_number = layers.Pooling(data(), pool=params.Pooling.AVE)
    by_name = layers.Pooling(data(), pool="AVE")
    assert by_number.to_proto() == by_name.to_proto()
    assert (params.Data.LMDB, params.Eltwise.PROD, params.LRN.WITHIN_CHANNEL) == (1, 0, 1)


def test_types_without_a_message_of_their_name_take_whole_messages() -> None:
    up = layers.Deconvolution(data(), convolution_param={"num_output": 2, "kernel_size": 4})
    assert up.to_proto().layer[1].convolution_param.num_output == 2
    assert layers.Zork(data()).to_proto().layer[1].type == "Zork"


def test_several_tops_share_one_count() -> None:
    a, b = layers.Slice(data(), ntop=2)
    names = [x[0] for x in shown(to_proto(layers.AbsVal(a), layers.AbsVal(b)))]
    assert names == ["Input1", "Slice1", "AbsVal1", "AbsVal2"]


def test_helpers_of_net_spec() -> None:
    names = param_name_dict()
    assert len(names) == 49
    assert (names["InnerProduct"], names["HDF5Data"]) == ("inner_product", "hdf5_data")
    assert isinstance(layers.Silence(data(), ntop=0), Function)
    layer = caffe_pb2.LayerParameter()
    assign_proto(layer, "include", {"stage": ["a", "b"]})
    assert list(layer.include[0].stage) == ["a", "b"]


def test_a_missing_top_is_told_in_both_ways() -> None:
    n = NetSpec()
    with pytest.raises(KeyError, match="nothing"):
        n["nothing"]
    assert not hasattr(n, "nothing")
    n.x = data()
    assert copy.copy(n).to_proto() == n.to_proto()


def assigned(value: Any) -> Any:
    n = NetSpec()
    n.bad = value
    return n.to_proto()


REFUSED: dict[str, tuple[type[Exception], Callable[[], Any], str]] = {
    "a name as bottom": (
        TypeError,
        lambda: layers.ReLU("data"),
        r"^ReLU input 0 is not a Top \(type is <class 'str'>\)$",
    ),
    "tops at once": (AttributeError, lambda: assigned(layers.Slice(data(), ntop=2)), "'bad'"),
    "a number": (AttributeError, lambda: assigned(3), "'bad' of the NetSpec is a int"),
    "no Top": (AttributeError, lambda: to_proto(layers.Silence(data(), ntop=0)), "takes Tops"),
    "unknown field": (
        AttributeError,
        lambda: layers.ReLU(data(), zork=1).to_proto(),
        r"layer 'ReLU1' \(ReLU\), zork=1: LayerParameter has no field 'zork'",
    ),
    "unknown inner field": (
        AttributeError,
        lambda: layers.Convolution(data(), weight_filler={"kind": "x"}).to_proto(),
        "weight_filler={'kind': 'x'}: FillerParameter has no field 'kind'",
    ),
    "text for a number": (
        TypeError,
        lambda: layers.Convolution(data(), num_output="many").to_proto(),
        "num_output='many'",
    ),
    "a tuple": (
        TypeError,
        lambda: layers.Convolution(data(), kernel_size=(3, 3)).to_proto(),
        r"kernel_size=\(3, 3\)",
    ),
    "no such enum": (
        ValueError,
        lambda: layers.Pooling(data(), pool="LOUD").to_proto(),
        "pool='LOUD'",
    ),
    "an empty list": (
        IndexError,
        lambda: layers.Convolution(data(), kernel_size=[]).to_proto(),
        "the list for kernel_size is empty",
    ),
    "no such enum in params": (AttributeError, lambda: params.Pooling.LOUD, "LOUD"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_with_their_place(name: str) -> None:
    kind, call, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        call()
