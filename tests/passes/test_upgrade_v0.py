"""V0 layers: every type, every field, padding layers."""

import pytest
from google.protobuf import text_format

from caffe2torch.errors import NetError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import message_class
from caffe2torch.io.unknown import describe
from caffe2torch.layers import all_layers
from caffe2torch.passes.upgrade_v0 import TYPES as TABLE
from caffe2torch.pipeline import upgrade_net

OTHERWISE = {
    "conv": "Convolution",
    "images": "ImageData",
    "pool": "Pooling",
    "softmax_loss": "SoftmaxWithLoss",
}
"""V0 types that do not become the type of the same letters."""
KNOWN = {name.lower(): name for name in (*all_layers(), "HDF5Output")}
TYPES = {old: OTHERWISE.get(old) or KNOWN[old.replace("_", "")] for old in TABLE}

PARAMETERS = {
    "conv": (
        'num_output: 6 biasterm: false weight_filler { type: "xavier" } bias_filler { value: 3 } '
        "pad: 2 kernelsize: 5 group: 3 stride: 7",
        "convolution_param { num_output: 6 bias_term: false weight_filler { type: 'xavier' } "
        "bias_filler { value: 3 } pad: 2 kernel_size: 5 group: 3 stride: 7 }",
    ),
    "innerproduct": (
        'num_output: 6 biasterm: false weight_filler { type: "xavier" } bias_filler { value: 3 }',
        "inner_product_param { num_output: 6 bias_term: false weight_filler { type: 'xavier' } "
        "bias_filler { value: 3 } }",
    ),
    "pool": (
        "pool: STOCHASTIC pad: 2 kernelsize: 5 stride: 3",
        "pooling_param { pool: STOCHASTIC pad: 2 kernel_size: 5 stride: 3 }",
    ),
    "dropout": ("dropout_ratio: 0.25", "dropout_param { dropout_ratio: 0.25 }"),
    "lrn": (
        "local_size: 7 alpha: 0.5 beta: 0.25 k: 3",
        "lrn_param { local_size: 7 alpha: 0.5 beta: 0.25 k: 3 }",
    ),
    "concat": ("concat_dim: 0", "concat_param { concat_dim: 0 }"),
    "infogain_loss": ('source: "s"', 'infogain_loss_param { source: "s" }'),
    "data": (
        'source: "s" batchsize: 5 rand_skip: 3 scale: 0.5 meanfile: "m" cropsize: 7 mirror: true',
        'transform_param { scale: 0.5 mean_file: "m" crop_size: 7 mirror: true } '
        'data_param { source: "s" batch_size: 5 rand_skip: 3 }',
    ),
    "hdf5_data": (
        'source: "s" batchsize: 5',
        'hdf5_data_param { source: "s" batch_size: 5 }',
    ),
    "hdf5_output": (
        'hdf5_output_param { file_name: "f" }',
        'hdf5_output_param { file_name: "f" }',
    ),
    "images": (
        'source: "s" batchsize: 5 rand_skip: 3 shuffle_images: true new_height: 7 new_width: 2 '
        "cropsize: 3",
        "transform_param { crop_size: 3 } "
        'image_data_param { source: "s" batch_size: 5 rand_skip: 3 shuffle: true '
        "new_height: 7 new_width: 2 }",
    ),
    "window_data": (
        'source: "s" batchsize: 5 det_fg_threshold: 0.1 det_bg_threshold: 0.2 '
        'det_fg_fraction: 0.3 det_context_pad: 7 det_crop_mode: "square" mirror: true',
        "transform_param { mirror: true } "
        'window_data_param { source: "s" batch_size: 5 fg_threshold: 0.1 bg_threshold: 0.2 '
        'fg_fraction: 0.3 context_pad: 7 crop_mode: "square" }',
    ),
}
PARAMETERS["inner_product"] = PARAMETERS["innerproduct"]  # SPP_net's spelling.


def parse(text):
    return text_format.Parse(text, message_class("NetParameter")())


def upgrade(text):
    return upgrade_net(parse(text))


@pytest.mark.parametrize(("old", "new"), TYPES.items())
def test_type(old, new):
    text = f'layers {{ layer {{ name: "n" type: "{old}" }} top: "t" top: "u" }}'
    assert upgrade(text) == parse(f'layer {{ name: "n" type: "{new}" top: "t" top: "u" }}')


def test_every_v0_type_is_one_of_the_first_24_of_v1():
    enum = message_class("V1LayerParameter").DESCRIPTOR.enum_types_by_name["LayerType"]
    assert set(TABLE.values()) == {v.name for v in enum.values if 1 <= v.number <= 24}


@pytest.mark.parametrize("kind", PARAMETERS)
def test_parameters(kind):
    old, new = PARAMETERS[kind]
    got = upgrade(f'layers {{ layer {{ name: "n" type: "{kind}" {old} }} }}')
    assert got == parse(f'layer {{ name: "n" type: "{TYPES[kind]}" {new} }}')


@pytest.mark.parametrize(("old", "new"), [("MAX", "MAX"), ("AVE", "AVE")])
def test_pool_method(old, new):
    got = upgrade(f'layers {{ layer {{ name: "n" type: "pool" pool: {old} }} }}')
    assert got == parse(f'layer {{ name: "n" type: "Pooling" pooling_param {{ pool: {new} }} }}')


def test_learned_blobs_and_their_multipliers():
    got = upgrade(
        'layers { layer { name: "n" type: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 3 '
        "blobs { num: 1 channels: 1 height: 1 width: 2 data: 5 data: 7 } } }"
    )
    assert got == parse(
        'layer { name: "n" type: "Convolution" param { lr_mult: 1 decay_mult: 3 } '
        "param { lr_mult: 2 } blobs { num: 1 channels: 1 height: 1 width: 2 data: 5 data: 7 } }"
    )


def test_field_that_the_type_does_not_have_is_dropped():
    got = upgrade('layers { layer { name: "n" type: "relu" num_output: 3 new_num: 2 } }')
    assert got == parse('layer { name: "n" type: "ReLU" }')


def test_entry_fields_that_v0_does_not_have_are_dropped():
    text = (
        'layers { layer { name: "n" type: "relu" } include { phase: TRAIN } '
        'unknown_field { name: "x" } }'
    )
    assert upgrade(text) == parse('layer { name: "n" type: "ReLU" unknown_field { name: "x" } }')


def test_unknown_type():
    with pytest.raises(NetError, match=r"layer 'n' \(Convolution\), type: .* no such layer type"):
        upgrade('layers { layer { name: "n" type: "Convolution" } }')


def padded(reader, padding='bottom: "x" top: "p"'):
    return (
        'input: "x" input_dim: 1 input_dim: 2 input_dim: 5 input_dim: 7 '
        f'layers {{ layer {{ name: "pad" type: "padding" pad: 3 }} {padding} }} '
        f"layers {{ {reader} }}"
    )


@pytest.mark.parametrize(
    ("kind", "parameter"),
    [("conv", "convolution_param { pad: 3 }"), ("pool", "pooling_param { pad: 3 }")],
)
def test_padding_replaces_the_readers_own(kind, parameter):
    got = upgrade(
        padded(f'layer {{ name: "n" type: "{kind}" pad: 2 }} bottom: "p" top: "y"'),
    )
    want = f'layer {{ name: "n" type: "{TYPES[kind]}" bottom: "x" top: "y" {parameter} }}'
    assert list(got.layer)[1:] == list(parse(want).layer)


def test_padding_of_a_blob_that_is_written_again_is_not_used():
    got = upgrade(
        padded('layer { name: "r" type: "relu" } bottom: "x" top: "p"')
        + 'layers { layer { name: "n" type: "conv" } bottom: "p" top: "y" }'
    )
    assert [(layer.name, list(layer.bottom)) for layer in got.layer] == [
        ("input", []),
        ("r", ["x"]),
        ("n", ["p"]),
    ]
    assert not got.layer[2].HasField("convolution_param")


@pytest.mark.parametrize("kind", ["relu", "padding", "innerproduct"])
def test_padding_read_by_another_type(kind):
    with pytest.raises(NetError, match=f"'n' .{kind}.: it reads the padding layer 'pad'"):
        upgrade(padded(f'layer {{ name: "n" type: "{kind}" }} bottom: "p" top: "y"'))


def test_padding_read_beside_another_bottom():
    with pytest.raises(NetError, match=r"'n' .conv.: it has 2 bottoms"):
        upgrade(padded('layer { name: "n" type: "conv" } bottom: "x" bottom: "p" top: "y"'))


@pytest.mark.parametrize(
    ("padding", "message"),
    [
        ('bottom: "x" bottom: "x" top: "p"', "2 bottoms and 1 tops"),
        ('bottom: "x" top: "p" top: "q"', "1 bottoms and 2 tops"),
    ],
)
def test_padding_with_other_than_one_bottom_and_top(padding, message):
    with pytest.raises(NetError, match=f"'pad' .padding.: {message}"):
        upgrade(padded('layer { name: "n" type: "conv" } bottom: "p" top: "y"', padding))


def test_unknown_bottom():
    with pytest.raises(NetError, match=r"'n' .relu.: unknown bottom 'z'"):
        upgrade('layers { layer { name: "n" type: "relu" } bottom: "z" top: "y" }')


def test_parameters_of_v1_in_a_v0_layer_of_a_fork() -> None:
    """SPP_net's nets write ``inner_product_param`` and ``conv_param`` there."""
    net = parse_prototxt(
        'layers { layer { name: "c" type: "conv" conv_param { num_output: 4 } } top: "c" }\n'
        'layers { layer { name: "fc" type: "inner_product" blobs_lr: 2\n'
        "inner_product_param { num_output: 6 odd: 1 } conv_param { } } top: 'fc' }"
    )
    conv, fc = upgrade_net(net).layer
    assert (conv.type, conv.convolution_param.num_output) == ("Convolution", 4)
    assert (fc.type, fc.inner_product_param.num_output) == ("InnerProduct", 6)
    assert [describe(field) for field in fc.unknown_field] == [
        "inner_product_param.odd: 1 (line 3, column 37)",
        "layer.conv_param (line 3, column 46)",
    ]
