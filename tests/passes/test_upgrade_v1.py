"""V1 layers: every type, every parameter message, parameter specs, transformation fields."""

import pytest
from google.protobuf import text_format

from caffe2torch.io.schema import message_class
from caffe2torch.layers import all_layers
from caffe2torch.pipeline import upgrade_net

TYPES = message_class("V1LayerParameter").DESCRIPTOR.enum_types_by_name["LayerType"].values
OTHERWISE = {"NONE": "", "SOFTMAX_LOSS": "SoftmaxWithLoss"}
"""V1 types that do not become the type of the same letters."""
KNOWN = {name.upper(): name for name in (*all_layers(), "HDF5Output")}

PARAMETERS = """
accuracy_param { top_k: 5 }
argmax_param { out_max_val: true top_k: 3 }
concat_param { concat_dim: 2 }
contrastive_loss_param { margin: 3 }
convolution_param { num_output: 2 pad: 3 kernel_size: 5 }
data_param { source: "d" batch_size: 2 }
dropout_param { dropout_ratio: 0.25 }
dummy_data_param { num: 3 }
eltwise_param { operation: MAX }
exp_param { base: 2 }
hdf5_data_param { source: "h" }
hdf5_output_param { file_name: "o" }
hinge_loss_param { norm: L2 }
image_data_param { source: "i" }
infogain_loss_param { source: "g" }
inner_product_param { num_output: 7 }
loss_param { ignore_label: 3 }
lrn_param { norm_region: WITHIN_CHANNEL k: 2 }
memory_data_param { batch_size: 2 channels: 3 }
mvn_param { across_channels: true }
pooling_param { pool: AVE kernel_h: 3 kernel_w: 5 }
power_param { power: 2 }
relu_param { negative_slope: 0.5 }
sigmoid_param { engine: CAFFE }
slice_param { slice_dim: 2 slice_point: 3 }
softmax_param { axis: 2 }
tanh_param { engine: CAFFE }
threshold_param { threshold: 0.5 }
transform_param { mean_value: 104 }
window_data_param { source: "w" }
""".strip().splitlines()


def parse(text):
    return text_format.Parse(text, message_class("NetParameter")())


def upgrade(text):
    return upgrade_net(parse(text))


def test_parameters_above_are_all_that_the_schema_has():
    fields = {field.name for field in message_class("V1LayerParameter").DESCRIPTOR.fields}
    assert {text.split()[0] for text in PARAMETERS} == {f for f in fields if f.endswith("_param")}


@pytest.mark.parametrize("old", [value.name for value in TYPES])
def test_type(old):
    new = OTHERWISE[old] if old in OTHERWISE else KNOWN[old.replace("_", "")]
    got = upgrade(f'layers {{ name: "n" type: {old} bottom: "a" bottom: "b" top: "c" top: "d" }}')
    want = f'layer {{ name: "n" type: "{new}" bottom: "a" bottom: "b" top: "c" top: "d" }}'
    assert got == parse(want)


@pytest.mark.parametrize("text", PARAMETERS)
def test_parameter_message(text):
    assert upgrade(f'layers {{ name: "n" {text} }}') == parse(f'layer {{ name: "n" {text} }}')


def test_empty_parameter_message_stays_present():
    got = upgrade('layers { name: "n" type: RELU relu_param { } }')
    assert got.layer[0].HasField("relu_param")


def test_rules_losses_blobs_and_unknown_fields():
    rest = (
        'include { phase: TEST stage: "a" } include { min_level: 2 } exclude { not_stage: "b" } '
        'loss_weight: 3 loss_weight: 0 unknown_field { name: "x" } '
        "blobs { shape { dim: 2 } data: 5 data: 7 }"
    )
    assert upgrade(f'layers {{ name: "n" {rest} }}') == parse(f'layer {{ name: "n" {rest} }}')


def test_parameter_specs_of_lists_of_unequal_length():
    got = upgrade(
        'layers { name: "n" param: "w" param: "" blob_share_mode: PERMISSIVE '
        "blobs_lr: 1 blobs_lr: 2 blobs_lr: 3 weight_decay: 0 }"
    )
    assert got == parse(
        'layer { name: "n" param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 0 } '
        'param { name: "" lr_mult: 2 } param { lr_mult: 3 } }'
    )


def test_layer_without_name_or_type():
    assert upgrade('layers { top: "t" }') == parse('layer { top: "t" }')


@pytest.mark.parametrize(
    ("kind", "new", "parameter"),
    [
        ("DATA", "Data", "data_param"),
        ("IMAGE_DATA", "ImageData", "image_data_param"),
        ("WINDOW_DATA", "WindowData", "window_data_param"),
    ],
)
def test_transformation_fields_move(kind, new, parameter):
    moved = 'scale: 0.5 mean_file: "m" crop_size: 7 mirror: true'
    got = upgrade(
        f'layers {{ name: "n" type: {kind} transform_param {{ scale: 2 mean_value: 3 }} '
        f'{parameter} {{ source: "s" {moved} }} }}'
    )
    assert got == parse(
        f'layer {{ name: "n" type: "{new}" transform_param {{ mean_value: 3 {moved} }} '
        f'{parameter} {{ source: "s" }} }}'
    )


def test_transformation_fields_stay_on_another_type():
    rest = "data_param { scale: 0.5 }"
    got = upgrade(f'layers {{ name: "n" type: RELU {rest} }}')
    assert got == parse(f'layer {{ name: "n" type: "ReLU" {rest} }}')


def test_transformation_fields_stay_in_a_current_net():
    net = parse('layer { name: "n" type: "Data" data_param { scale: 0.5 mirror: true } }')
    assert upgrade_net(net) == net
