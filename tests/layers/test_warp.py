from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from warp_oracles import places_around, sampled

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers.warp import Warp
from caffe2torch.pipeline import build_graph

FIELDS = 'type: "Warp" warp_param {{ adds_flow: {} }}'
INPUTS = """
input: "image" input_shape { dim: 1 dim: 3 dim: 5 dim: 7 }
input: "flow" input_shape { dim: 1 dim: 2 dim: 5 dim: 7 }
"""
WARP = 'layer { name: "w" type: "Warp" bottom: "image" bottom: "p" top: "y" }'
GRID = 'layer { name: "g" type: "Grid" bottom: "flow" top: "g" }'


def test_places_are_read() -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    places = places_around((2, 5, 7), (5, 7))
    check_layer(FIELDS.format("false"), [image, places], [sampled(image, places)])


def test_a_flow_is_added_to_the_own_place() -> None:
    image = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    places = places_around((2, 5, 7), (5, 7))
    places[0, :, 1, 1] = 3, 4.5
    rows, columns = np.indices((5, 7))
    inside = (places >= 0) & (places <= np.array([6, 4])[:, None, None])
    expected = np.where(inside.all(1, keepdims=True), sampled(image, places), 0)
    check_layer(FIELDS.format("true"), [image, places - np.stack([columns, rows])], [expected])


def adds_flow(*layers: str) -> bool | None:
    graph = build_graph(parse_prototxt("\n".join((INPUTS, *layers))))
    (warp,) = (node.layer for node in graph.nodes if isinstance(node.layer, Warp))
    return warp.adds_flow


def test_the_net_shows_whose_it_is() -> None:
    added = 'layer { name: "p" type: "Eltwise" bottom: "flow" bottom: "g" top: "p" }'
    scaled = 'layer { name: "p" type: "Power" bottom: "flow" top: "p" power_param { scale: 5 } }'
    assert adds_flow(GRID, added, WARP) is False
    assert adds_flow(scaled, WARP) is True
    with pytest.raises(UnsupportedLayerError, match=r"write warp_param \{ adds_flow: true \}"):
        adds_flow(GRID, scaled, WARP)
    with pytest.raises(UnsupportedLayerError, match="this net does not show it"):
        adds_flow(WARP.replace('"p"', '"flow"'))
    said = WARP.replace('top: "y"', 'top: "y" warp_param { adds_flow: true }')
    assert adds_flow(GRID, added, said) is True


def test_other_shapes_are_refused() -> None:
    message = "must have one height and width"
    assert message in str(layer_error(FIELDS.format("true"), [(1, 3, 5, 7), (1, 2, 5, 6)]))
