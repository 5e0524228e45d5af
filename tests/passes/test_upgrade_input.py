"""Net-level inputs."""

import pytest
from google.protobuf import text_format

from caffe2torch.errors import NetError
from caffe2torch.io.schema import message_class
from caffe2torch.pipeline import upgrade_net

RELU = 'layer { name: "r" type: "ReLU" bottom: "a" top: "r" }'
NEG = 'layers { name: "r" type: RELU bottom: "a" top: "r" }'
DIMS = "input_dim: 2 input_dim: 3 input_dim: 5 input_dim: 7"
MORE = "input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 5"


def parse(text):
    return text_format.Parse(text, message_class("NetParameter")())


def upgrade(text):
    return upgrade_net(parse(text))


def expected(tops, *shapes):
    tops = " ".join(f'top: "{top}"' for top in tops)
    text = " ".join(
        "shape {" + " ".join(f" dim: {dim}" for dim in shape) + " }" for shape in shapes
    )
    return parse(f'layer {{ name: "input" type: "Input" {tops} input_param {{ {text} }} }} {RELU}')


@pytest.mark.parametrize(
    ("text", "tops", "shapes"),
    [
        (f'input: "a" {DIMS}', "a", [(2, 3, 5, 7)]),
        (f'input: "a" {DIMS} input: "b" {MORE}', "ab", [(2, 3, 5, 7), (1, 2, 3, 5)]),
        ('input: "a" input_shape { dim: 2 dim: 3 }', "a", [(2, 3)]),
        ('input: "a" input_shape { }', "a", [()]),
        (
            'input: "a" input: "b" input_shape { dim: 2 dim: 3 } input_shape { dim: 5 }',
            "ab",
            [(2, 3), (5,)],
        ),
        (f'input: "a" input_shape {{ dim: 7 }} {DIMS}', "a", [(7,)]),
        (f'input: "a" {DIMS} {MORE}', "a", [(2, 3, 5, 7)]),
        (f'input: "a" {DIMS} input_dim: 9', "a", [(2, 3, 5, 7)]),
        ('input: "a" input_shape { dim: 2 } input_shape { dim: 3 }', "a", [(2,)]),
    ],
)
@pytest.mark.parametrize("layer", [RELU, NEG])
def test_inputs_become_one_layer_in_front(text, tops, shapes, layer):
    assert upgrade(layer + text) == expected(tops, *shapes)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('input: "a" input_dim: 2 input_dim: 3 input_dim: 5', 0),
        (f'input: "a" input: "b" {DIMS} input_dim: 2', 1),
        ('input: "a" input: "b" input_shape { dim: 2 }', 1),
    ],
)
def test_input_without_a_shape_beside_others(text, count):
    with pytest.raises(NetError, match=rf"inputs \(a.*\) but shapes for {count}; give each"):
        upgrade(text)


def test_inputs_without_any_shape():
    got = upgrade(f'input: "a" {RELU}')
    assert got == parse(f'layer {{ name: "input" type: "Input" top: "a" }} {RELU}')


def test_an_input_without_a_shape_is_that_of_the_layer_that_makes_it():
    layer = """layer {
      name: "input" type: "Input" top: "a" input_param { shape { dim: 2 dim: 3 } }
    }"""
    assert upgrade(f'input: "a" {layer} {RELU}') == parse(layer + RELU)


def test_a_layer_that_changes_an_input_in_place_does_not_make_it():
    in_place = 'layer { name: "r" type: "ReLU" bottom: "a" top: "a" }'
    got = upgrade(f'input: "a" {in_place}')
    assert got == parse(f'layer {{ name: "input" type: "Input" top: "a" }} {in_place}')


def test_shape_without_an_input_is_ignored():
    assert upgrade(f"{DIMS} {RELU}") == parse(RELU)
