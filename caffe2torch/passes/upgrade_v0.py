"""V0 to V1: ``layers { layer { type: "conv" } }`` becomes ``layers { type: CONVOLUTION }``."""

from __future__ import annotations

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message, enum_value, message_class, put_field, replace_all
from caffe2torch.passes.draft import Draft

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


def upgrade_v0(draft: Draft) -> None:
    """Upgrade V0 layers to V1 (Caffe: UpgradeV0Net). Padding layers go into their readers.

    Before::

        layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "pad" }
        layers { layer { name: "c" type: "conv" num_output: 6 kernelsize: 5 }
          bottom: "pad" top: "c" }

    After::

        layers { name: "c" type: CONVOLUTION bottom: "data" top: "c"
          convolution_param { num_output: 6 kernel_size: 5 pad: 2 } }
    """
    net = draft.net
    if any(entry.HasField("layer") for entry in net.layers):
        _fold_padding_layers(net)
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


def _fold_padding_layers(net: Message) -> None:
    """Remove the padding layers of a V0 net, in place; their readers pad instead.

    Raises NetError, as Caffe does, if a bottom is unknown, or if a padding layer has not one
    bottom and one top or is read by anything but a convolution or pooling layer with one
    bottom.
    """
    writers: dict[str, Message | None] = dict.fromkeys(net.input)
    for entry in net.layers:
        for blob in list(entry.bottom):
            if blob not in writers:
                raise _padding_error(
                    entry, f"unknown bottom {blob!r}: no input or earlier top has it"
                )
            writer = writers[blob]
            if writer is not None and writer.layer.type == "padding":
                _fold(writer, entry)
        writers.update(dict.fromkeys(entry.top, entry))
    replace_all(net.layers, [entry for entry in net.layers if entry.layer.type != "padding"])


def _fold(padding: Message, reader: Message) -> None:
    if reader.layer.type not in ("conv", "pool"):
        raise _padding_error(
            reader,
            f"it reads the padding layer {padding.layer.name!r}, which only a conv or pool layer "
            "can; set pad on such a layer instead",
        )
    if len(reader.bottom) != 1:
        raise _padding_error(
            reader, f"it has {len(reader.bottom)} bottoms; one that is padded must be alone"
        )
    if (len(padding.bottom), len(padding.top)) != (1, 1):
        raise _padding_error(
            padding,
            f"{len(padding.bottom)} bottoms and {len(padding.top)} tops; padding has one of each",
        )
    reader.layer.pad = padding.layer.pad
    reader.bottom[0] = padding.bottom[0]


def _padding_error(entry: Message, message: str) -> NetError:
    return NetError(message, layer=entry.layer.name, type=entry.layer.type)
