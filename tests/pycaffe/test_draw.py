"""Pictures of nets: the labels, and the graph where pydot is installed."""

from __future__ import annotations

import builtins

import pytest
from google.protobuf import text_format

from caffe2torch.pycaffe import draw
from caffe2torch.pycaffe.proto import caffe_pb2

NET = text_format.Merge(
    """
    layer { name: "d" type: "Data" top: "d" data_param { batch_size: 4 } include { phase: TRAIN } }
    layer { name: "c" type: "Convolution" bottom: "d" top: "c" param { lr_mult: 2 }
            convolution_param { num_output: 5 kernel_size: 3 pad: 1 } }
    layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
    layer { name: "p" type: "Pooling" bottom: "c" top: "p"
            pooling_param { pool: AVE kernel_size: 2 stride: 2 } exclude { phase: TEST } }
    layer { name: "f" type: "InnerProduct" bottom: "p" top: "f"
            inner_product_param { num_output: 7 } }
    """,
    caffe_pb2.NetParameter(),
)
D, C, R, P, F = NET.layer


def test_labels_say_what_a_layer_is() -> None:
    assert draw.get_layer_label(C, "LR") == r'"c\n(Convolution)\nkernel size: 3\nstride: 1\npad: 1"'
    assert draw.get_layer_label(P, "TB") == '"p (Pooling AVE) kernel size: 2 stride: 2 pad: 0"'
    assert draw.get_layer_label(F, "BT", True) == '"f (InnerProduct) lr mult: 1.0, 1.0"'
    assert draw.get_layer_label(R, "LR", True) == r'"r\n(ReLU)"'
    assert [draw.get_edge_label(x) for x in NET.layer] == ["Batch 4", "5", '""', '""', "7"]
    assert draw.get_layer_lr_mult(C) == (2.0, 1.0)
    with pytest.raises(ValueError, match="ReLU layers have no"):
        draw.get_layer_lr_mult(R)
    colors = [draw.choose_color_by_layertype(x.type) for x in NET.layer]
    assert colors == ["#6495ED", "#FF5050", "#6495ED", "#FF9900", "#CC33FF"]
    assert draw.get_pooling_types_dict() == {0: "MAX", 1: "AVE", 2: "STOCHASTIC"}


def test_a_graph_has_layers_and_blobs_of_its_phase() -> None:
    pytest.importorskip("pydot")
    text = draw.get_pydot_graph(NET, "LR").to_string()
    assert text.count(" -> ") == 9
    assert '"#90EE90"' in text
    assert "(Data)" in draw.get_pydot_graph(NET, "LR", phase=0).to_string()
    test = draw.get_pydot_graph(NET, "LR", phase=1).to_string()
    assert "(Data)" not in test
    assert "Pooling" not in test


def test_two_kinds_of_rules_are_refused_where_a_phase_is_asked_for() -> None:
    pytest.importorskip("pydot")
    net = caffe_pb2.NetParameter()
    layer = net.layer.add(name="x", type="ReLU")
    layer.include.add(phase=0)
    layer.exclude.add(phase=1)
    draw.get_pydot_graph(net, "LR")
    with pytest.raises(ValueError, match="'x' has both include and exclude"):
        draw.get_pydot_graph(net, "LR", phase=0)


def test_without_pydot_the_error_says_what_to_install(monkeypatch, tmp_path) -> None:
    real = builtins.__import__

    def without(name, *rest):
        if name == "pydot":
            raise ModuleNotFoundError("No module named 'pydot'", name="pydot")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match="pip install pydot"):
        draw.draw_net_to_file(NET, tmp_path / "net.png")
    assert not list(tmp_path.iterdir())
