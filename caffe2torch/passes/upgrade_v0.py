"""V0 to V1: ``layers { layer { type: "conv" } }`` becomes ``layers { type: CONVOLUTION }``."""

from __future__ import annotations

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message, enum_value, message_class
from caffe2torch.passes._fields import put_field, replace_all
from caffe2torch.passes.upgrade_v0_padding import fold_padding_layers

TYPES = {
    "accuracy": "ACCURACY",
    "bnll": "BNLL",
    "concat": "CONCAT",
    "conv": "CONVOLUTION",
    "data": "DATA",
    "dropout": "DROPOUT",
    "euclidean_loss": "EUCLIDEAN_LOSS",
    "flatten": "FLATTEN",
    "hdf5_data": "HDF5_DATA",
    "hdf5_output": "HDF5_OUTPUT",
    "im2col": "IM2COL",
    "images": "IMAGE_DATA",
    "infogain_loss": "INFOGAIN_LOSS",
    "innerproduct": "INNER_PRODUCT",
    "lrn": "LRN",
    "multinomial_logistic_loss": "MULTINOMIAL_LOGISTIC_LOSS",
    "pool": "POOLING",
    "relu": "RELU",
    "sigmoid": "SIGMOID",
    "softmax": "SOFTMAX",
    "softmax_loss": "SOFTMAX_LOSS",
    "split": "SPLIT",
    "tanh": "TANH",
    "window_data": "WINDOW_DATA",
}
"""V0 type names and the V1 LayerType each becomes."""

KEPT = ("name", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param")
"""Fields of the inner ``layer`` that V1 has under the same name."""

KEPT_OF_ENTRY = ("bottom", "top", "unknown_field")
"""Fields that V0 has beside the inner ``layer``; Caffe drops any other."""

TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
"""V0 fields that become a field of ``transform_param``, whatever the type."""

PARAMETERS = {
    "conv": (
        "convolution_param",
        {
            "num_output": "num_output",
            "biasterm": "bias_term",
            "weight_filler": "weight_filler",
            "bias_filler": "bias_filler",
            "pad": "pad",
            "kernelsize": "kernel_size",
            "group": "group",
            "stride": "stride",
        },
    ),
    "innerproduct": (
        "inner_product_param",
        {
            "num_output": "num_output",
            "biasterm": "bias_term",
            "weight_filler": "weight_filler",
            "bias_filler": "bias_filler",
        },
    ),
    "pool": (
        "pooling_param",
        {"pool": "pool", "pad": "pad", "kernelsize": "kernel_size", "stride": "stride"},
    ),
    "dropout": ("dropout_param", {"dropout_ratio": "dropout_ratio"}),
    "lrn": ("lrn_param", {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"}),
    "concat": ("concat_param", {"concat_dim": "concat_dim"}),
    "infogain_loss": ("infogain_loss_param", {"source": "source"}),
    "data": (
        "data_param",
        {"source": "source", "batchsize": "batch_size", "rand_skip": "rand_skip"},
    ),
    "hdf5_data": ("hdf5_data_param", {"source": "source", "batchsize": "batch_size"}),
    "images": (
        "image_data_param",
        {
            "source": "source",
            "batchsize": "batch_size",
            "rand_skip": "rand_skip",
            "shuffle_images": "shuffle",
            "new_height": "new_height",
            "new_width": "new_width",
        },
    ),
    "window_data": (
        "window_data_param",
        {
            "source": "source",
            "batchsize": "batch_size",
            "det_fg_threshold": "fg_threshold",
            "det_bg_threshold": "bg_threshold",
            "det_fg_fraction": "fg_fraction",
            "det_context_pad": "context_pad",
            "det_crop_mode": "crop_mode",
        },
    ),
}
"""For each V0 type, the V1 parameter message and the V0 fields that move there.

A field that is set on a type which does not have it here meant nothing in V0; Caffe logs it
and goes on without it, and so does the upgrade.
"""


def upgrade_v0(net: Message) -> None:
    """Upgrade the V0 layers of ``net``, in place, to V1."""
    if any(entry.HasField("layer") for entry in net.layers):
        fold_padding_layers(net)
        replace_all(net.layers, [_upgrade_layer(entry) for entry in net.layers])


def _upgrade_layer(entry: Message) -> Message:
    v0, v1 = entry.layer, message_class("V1LayerParameter")()
    for descriptor, value in entry.ListFields():
        if descriptor.name in KEPT_OF_ENTRY:
            put_field(v1, descriptor.name, value)
    parameter, fields = PARAMETERS.get(v0.type, ("", {}))
    for descriptor, value in v0.ListFields():
        field = descriptor.name
        if field == "type":
            v1.type = _layer_type(v0)
        elif field in KEPT:
            put_field(v1, field, value)
        elif field in TRANSFORM:
            put_field(v1.transform_param, TRANSFORM[field], value)
        elif field in fields:
            put_field(getattr(v1, parameter), fields[field], value)
    return v1


def _layer_type(v0: Message) -> int:
    if v0.type not in TYPES:
        raise NetError(
            f"Caffe's V0 format has no such layer type; it has {', '.join(TYPES)}",
            layer=v0.name,
            type=v0.type,
            field="type",
        )
    return enum_value("V1LayerParameter.LayerType", TYPES[v0.type])
