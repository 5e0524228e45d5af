"""The whole upgrade: generations, idempotence, and the nets of the conformance set."""

import pytest
from google.protobuf import text_format
from support import CASES

from caffe2torch.errors import NetError
from caffe2torch.io.schema import message_class
from caffe2torch.passes.upgrade import blob_owner_names
from caffe2torch.pipeline import upgrade_net

INPUT = """
layer {
  name: "input" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 9 dim: 11 } }
}
"""

V0_EXPECTED = (
    INPUT
    + """
layer {
  name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 }
  convolution_param {
    num_output: 6 kernel_size: 5 stride: 2 pad: 2 bias_term: true
    weight_filler { type: "gaussian" std: 0.01 }
    bias_filler { type: "constant" value: 0 }
  }
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer {
  name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 }
}
layer {
  name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
  lrn_param { local_size: 3 alpha: 0.05 beta: 0.75 }
}
layer {
  name: "conv2" type: "Convolution" bottom: "norm1" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 3 group: 2 pad: 1 bias_term: false }
}
layer {
  name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
  inner_product_param { num_output: 5 }
}
layer { name: "tanh2" type: "TanH" bottom: "fc" top: "fc" }
layer {
  name: "drop" type: "Dropout" bottom: "fc" top: "fc"
  dropout_param { dropout_ratio: 0.5 }
}
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
)

V1_EXPECTED = (
    INPUT
    + """
layer {
  name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 }
  param { lr_mult: 2 decay_mult: 0 }
  convolution_param {
    num_output: 6 kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "gaussian" std: 0.01 }
  }
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer {
  name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 }
}
layer {
  name: "norm1" type: "LRN" bottom: "pool1" top: "norm1"
  lrn_param { local_size: 3 alpha: 0.1 beta: 0.75 }
}
layer {
  name: "conv2" type: "Convolution" bottom: "norm1" top: "conv2"
  convolution_param { num_output: 4 kernel_size: 2 group: 2 }
}
layer {
  name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
  param { lr_mult: 1 }
  param { lr_mult: 2 }
  inner_product_param { num_output: 5 }
}
layer {
  name: "drop" type: "Dropout" bottom: "fc" top: "fc"
  dropout_param { dropout_ratio: 0.5 }
}
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
)

PADDING_EXPECTED = """
layer {
  name: "input" type: "Input" top: "x"
  input_param { shape { dim: 1 dim: 2 dim: 6 dim: 7 } }
}
layer {
  name: "c1" type: "Convolution" bottom: "x" top: "c1"
  convolution_param { num_output: 3 kernel_size: 3 pad: 2 }
}
layer {
  name: "c2" type: "Convolution" bottom: "x" top: "c2"
  convolution_param { num_output: 2 kernel_size: 5 pad: 2 }
}
layer { name: "l" type: "Softmax" bottom: "c1" top: "s" }
"""

SHARED_EXPECTED = """
layer {
  name: "input" type: "Input" top: "a" top: "b"
  input_param {
    shape { dim: 1 dim: 2 dim: 5 dim: 6 }
    shape { dim: 1 dim: 2 dim: 5 dim: 6 }
  }
}
layer {
  name: "c1" type: "Convolution" bottom: "a" top: "ca"
  param { name: "w" lr_mult: 1 }
  param { name: "bias" lr_mult: 2 }
  convolution_param { num_output: 3 kernel_size: 3 }
}
layer {
  name: "c2" type: "Convolution" bottom: "b" top: "cb"
  param { name: "w" share_mode: STRICT lr_mult: 1 }
  param { name: "bias" share_mode: PERMISSIVE lr_mult: 2 }
  convolution_param { num_output: 3 kernel_size: 3 }
}
"""

DATA_EXPECTED = """
layer {
  name: "input" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 2 dim: 6 dim: 6 } }
}
layer {
  name: "mnist" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.00390625 mean_file: "mean.binaryproto" crop_size: 24 mirror: true }
  data_param { source: "train-leveldb" batch_size: 64 }
}
layer {
  name: "img" type: "ImageData" top: "data" top: "label" include { phase: TRAIN stage: "img" }
  transform_param { scale: 0.5 }
  image_data_param { source: "list.txt" }
}
layer {
  name: "dd" type: "DummyData" top: "one" include { phase: TRAIN }
  dummy_data_param { num: 2 channels: 1 height: 1 width: 1 data_filler { value: 1 } }
}
layer {
  name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 3 kernel_size: 3 }
}
"""

RULES_EXPECTED = """
name: "v1"
layer {
  name: "input" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 2 dim: 6 dim: 6 } }
}
layer { name: "r1" type: "ReLU" bottom: "data" top: "x" include { phase: TEST } }
layer { name: "r2" type: "TanH" bottom: "data" top: "x" include { phase: TRAIN } }
layer {
  name: "p" type: "Power" bottom: "x" top: "y" exclude { phase: TRAIN } power_param { shift: 1 }
}
"""

EXPECTED = {
    "v0_padding_skipped_blob": PADDING_EXPECTED,
    "v0_text_v0_binary": V0_EXPECTED,
    "v0_text_v2_binary": V0_EXPECTED,
    "v1_data_layer_excluded": DATA_EXPECTED,
    "v1_include_rules": RULES_EXPECTED,
    "v1_shared_params": SHARED_EXPECTED,
    "v1_text_v1_binary": V1_EXPECTED,
    "v1_text_v2_binary": V1_EXPECTED,
}


def parse(text):
    return text_format.Parse(text, message_class("NetParameter")())


@pytest.mark.parametrize("case", EXPECTED)
def test_conformance_net_upgrades_to(case):
    net = parse((CASES / case / "net.prototxt").read_text())
    assert upgrade_net(net) == parse(EXPECTED[case])


@pytest.mark.parametrize("case", sorted(path.name for path in CASES.glob("v[012]_*")))
def test_result_has_layers_of_the_current_form_only_and_is_stable(case):
    net = parse((CASES / case / "net.prototxt").read_text())
    before = net.SerializeToString()
    upgraded = upgrade_net(net)
    assert net.SerializeToString() == before
    assert upgraded.layer
    assert not upgraded.layers
    assert not upgraded.input
    assert not upgraded.input_dim
    assert upgrade_net(upgraded) == upgraded


def test_current_net_is_unchanged():
    net = parse((CASES / "v2_binary_legacy_4d" / "net.prototxt").read_text())
    assert upgrade_net(net) == net


def test_layer_and_layers_are_refused():
    net = parse((CASES / "err_layer_and_layers" / "net.prototxt").read_text())
    with pytest.raises(NetError, match=r"both 'layers' \(first: 'r'\) and 'layer'.*'data'"):
        upgrade_net(net)


def test_v0_and_v1_entries_in_one_net_are_refused():
    net = parse(
        'layers { layer { name: "a" type: "relu" } } layers { name: "b" type: RELU top: "b" }'
    )
    with pytest.raises(NetError, match=r"V0 entries.*'b' is not one"):
        upgrade_net(net)


@pytest.mark.parametrize("head", ["layer", "layers"])
def test_net_fields_are_kept(head):
    kind = '"ReLU"' if head == "layer" else "RELU"
    net = parse(
        'name: "n" force_backward: true debug_info: true state { level: 2 stage: "s" } '
        f'unknown_field {{ name: "x" }} {head} {{ name: "r" type: {kind} '
        'unknown_field { name: "y" } }'
    )
    assert upgrade_net(net) == parse(
        'name: "n" force_backward: true debug_info: true state { level: 2 stage: "s" } '
        'unknown_field { name: "x" } layer { name: "r" type: "ReLU" unknown_field { name: "y" } }'
    )


@pytest.mark.parametrize(
    "text",
    [
        'layers { layer { name: "a" type: "padding" } } layers { layer { name: "b" } }',
        'layers { name: "a" type: RELU } layers { name: "b" }',
        'layer { name: "a" } layer { name: "b" type: "ReLU" }',
        'layers { layer { name: "a" } } layers { name: "b" }',
    ],
)
def test_blob_owner_names_has_one_name_an_entry(text):
    assert blob_owner_names(parse(text)) == ["a", "b"]


def test_blob_owner_names_of_an_empty_net():
    assert blob_owner_names(parse('name: "n"')) == []
