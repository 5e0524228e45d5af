"""BatchNorm layers with parameter specs."""

import pytest
from google.protobuf import text_format

from caffe2torch.io.schema import message_class
from caffe2torch.pipeline import upgrade_net


def parse(text):
    return text_format.Parse(text, message_class("NetParameter")())


def test_three_specs_are_set_to_zero_and_keep_their_names():
    specs = 'param { name: "m" lr_mult: 1 } param { decay_mult: 2 } param { }'
    got = upgrade_net(parse(f'layer {{ name: "b" type: "BatchNorm" {specs} }}'))
    zero = "lr_mult: 0 decay_mult: 0"
    assert got == parse(
        'layer { name: "b" type: "BatchNorm" '
        f'param {{ name: "m" {zero} }} param {{ {zero} }} param {{ {zero} }} }}'
    )


@pytest.mark.parametrize(("kind", "count"), [("BatchNorm", 2), ("BatchNorm", 5), ("Scale", 3)])
def test_others_are_unchanged(kind, count):
    net = parse(f'layer {{ name: "b" type: "{kind}" {"param { lr_mult: 1 } " * count} }}')
    assert upgrade_net(net) == net
