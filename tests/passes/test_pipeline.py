"""One pipeline: its passes have one contract, and what it is given stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from caffe2torch.errors import NetError, WeightsError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import BlobSource, Draft, Options, State
from caffe2torch.pipeline import LINK, PASSES, build_graph, restore_graph, run, with_params
from caffe2torch.rewrites.fold_input import fold_input
from caffe2torch.rewrites.fuse import fuse

NET = """
name: "net"
input: "x" input_dim: 2 input_dim: 3 input_dim: 7 input_dim: 5
layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2
  convolution_param { num_output: 6 kernel_size: 3 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "t" type: TANH bottom: "c" top: "t" include { phase: TRAIN } }
"""


@pytest.mark.parametrize("step", [*PASSES, fuse, fold_input], ids=lambda step: step.__name__)
def test_every_pass_shows_a_net_before_and_after(step: object) -> None:
    assert "Before" in str(step.__doc__)
    assert "After" in str(step.__doc__)


def test_the_passes_of_a_finished_net_come_in_the_order_of_all() -> None:
    assert [step for step in PASSES if step in LINK] == list(LINK)


def test_the_given_net_is_not_changed() -> None:
    net = parse_prototxt(NET)
    before = net.SerializeToString()
    graph = build_graph(net)
    assert net.SerializeToString() == before
    assert [(node.layer.name, node.inputs, node.outputs) for node in graph.nodes] == [
        ("c", ("x",), ("c@c",)),
        ("r", ("c@c",), ("c",)),
    ]


def test_the_state_decides_which_layers_are_in_the_net() -> None:
    graph = build_graph(parse_prototxt(NET), None, State("TRAIN"))
    assert [node.layer.name for node in graph.nodes] == ["c", "r", "t"]
    assert graph.phase == "TRAIN"


def test_input_shapes_replace_the_declared_ones() -> None:
    graph = build_graph(parse_prototxt(NET), options=Options(input_shapes={"x": (1, 3, 9, 11)}))
    assert graph.shapes == {"x": (1, 3, 9, 11), "c@c": (1, 6, 7, 9), "c": (1, 6, 7, 9)}
    assert "dim: 11" in graph.definition


def test_without_weights_arrays_have_shapes_and_take_no_memory() -> None:
    params = build_graph(parse_prototxt(NET)).params
    assert {key: array.shape for key, array in params.items()} == {
        "c.weight": (6, 3, 3, 3),
        "c.bias": (6,),
    }
    assert not any(stride for array in params.values() for stride in array.strides)
    with pytest.raises(WeightsError, match="the net wants weight"):
        build_graph(parse_prototxt(NET), BlobSource())


def test_a_node_holds_its_message_without_the_weights_in_it() -> None:
    net = parse_prototxt(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"'
        "  inner_product_param { num_output: 2 bias_term: false }"
        "  blobs { shape { dim: 2 dim: 3 } data: [1, 2, 3, 4, 5, 6] } }"
    )
    graph = build_graph(net, BlobSource())
    (node,) = graph.nodes
    assert not node.proto.blobs
    assert len(net.layer[1].blobs) == 1
    assert graph.params["fc.weight"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert "blobs" not in graph.definition


def test_a_definition_and_its_arrays_are_the_graph_again() -> None:
    graph = build_graph(parse_prototxt(NET))
    rng = np.random.default_rng(0)
    params = {k: rng.standard_normal(a.shape, np.float32) for k, a in graph.params.items()}
    graph = with_params(graph, params)
    again = restore_graph(parse_prototxt(graph.definition), params, graph.phase)
    assert (again.name, again.nodes, again.shapes) == (graph.name, graph.nodes, graph.shapes)
    assert again.definition == graph.definition
    assert all(again.params[key] is array for key, array in params.items())


def test_an_error_names_its_pass() -> None:
    net = parse_prototxt('layer { name: "r" type: "ReLU" bottom: "absent" top: "r" }')
    with pytest.raises(NetError, match="which no layer before it produces") as caught:
        build_graph(net)
    assert caught.value.__notes__ == ["in the pass resolve"]  # type: ignore[attr-defined]
    assert "pass" not in str(caught.value)


def test_a_pass_of_ones_own() -> None:
    """Rename a blob between two passes of the library."""

    def rename(draft: Draft) -> None:
        for layer in draft.net.layer:
            layer.top[:] = ["y" if top == "t" else top for top in layer.top]

    at = PASSES.index(LINK[0])
    draft = Draft(parse_prototxt(NET), state=State("TRAIN"))
    run((*PASSES[:at], rename, *PASSES[at:]), draft)
    assert draft.outputs == ("y",)


@pytest.mark.parametrize(
    "source",
    [
        'type: "InpUt" input_param { shape { dim: 2 dim: 3 } }',
        'type: "Data" data_param { batch_size: 2 }',
        'type: "Input"',
    ],
)
def test_a_source_without_shapes_in_a_damaged_definition_is_refused(source: str) -> None:
    definition = parse_prototxt(f'layer {{ name: "x" top: "x" {source} }}')
    with pytest.raises(NetError, match="does not say what shapes its tops have"):
        restore_graph(definition, {}, "TEST")
