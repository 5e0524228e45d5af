"""V0 to V1: ``layers { layer { type: "conv" } }`` becomes ``layers { type: CONVOLUTION }``."""

from __future__ import annotations

from caffe2torch.io.prototxt import parse_into
from caffe2torch.io.schema import Message, enum_value, message_class, put_field, replace_all
from caffe2torch.layers import net_error
from caffe2torch.passes.draft import Draft

SAME_WORDS = (
    "accuracy bnll concat data dropout euclidean_loss flatten hdf5_data hdf5_output im2col "
    "infogain_loss lrn multinomial_logistic_loss relu sigmoid softmax softmax_loss split tanh "
    "window_data"
)
OTHER_WORDS = {
    "conv": "CONVOLUTION",
    "images": "IMAGE_DATA",
    "inner_product": "INNER_PRODUCT",
    "innerproduct": "INNER_PRODUCT",
    "pool": "POOLING",
}
TYPES = {name: name.upper() for name in SAME_WORDS.split()} | OTHER_WORDS
"""V0 type names and the V1 LayerType each becomes; ``inner_product`` is SPP_net's spelling."""

KEPT = ("name", "blobs", "blobs_lr", "weight_decay", "hdf5_output_param")
"""Fields of the inner ``layer`` that V1 has under the same name."""

KEPT_OF_ENTRY = ("bottom", "top", "place")
"""Fields that V0 has beside the inner ``layer``; Caffe drops any other."""

TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
"""V0 fields that become a field of ``transform_param``, whatever the type."""

PARAMETERS = {
    "conv": "num_output biasterm weight_filler bias_filler pad kernelsize group stride",
    "inner_product": "num_output biasterm weight_filler bias_filler",
    "innerproduct": "num_output biasterm weight_filler bias_filler",
    "pool": "pool pad kernelsize stride",
    "dropout": "dropout_ratio",
    "lrn": "local_size alpha beta k",
    "concat": "concat_dim",
    "infogain_loss": "source",
    "data": "source batchsize rand_skip",
    "hdf5_data": "source batchsize",
    "images": "source batchsize rand_skip shuffle_images new_height new_width",
    "window_data": "source batchsize det_fg_threshold det_bg_threshold det_fg_fraction "
    "det_context_pad det_crop_mode",
}
"""For each V0 type, the V0 fields that move to the V1 type's own parameter message.

A field that is set on a type which does not have it here meant nothing in V0; Caffe logs it
and goes on without it, and so does the upgrade.
"""

RENAMED = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
}
"""V0 fields with another name in the parameter message; ``det_`` is dropped from all."""


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
    fields = PARAMETERS.get(v0.type, "").split()
    for descriptor, value in v0.ListFields():
        field = descriptor.name
        if field == "type":
            v1.type = _layer_type(v0)
        elif field in KEPT:
            put_field(v1, field, value)
        elif field in TRANSFORM:
            put_field(v1.transform_param, TRANSFORM[field], value)
        elif field in fields:
            parameter = getattr(v1, f"{TYPES[v0.type].lower()}_param")
            put_field(parameter, RENAMED.get(field, field.removeprefix("det_")), value)
    for unknown in entry.unknown_field:
        if v0.type and unknown.parent == "layer" and unknown.name == f"{v0.type}_param":
            _add_own(v1, f"{TYPES[v0.type].lower()}_param", unknown, entry.place)
        else:
            v1.unknown_field.append(unknown)
    return v1


def _add_own(v1: Message, parameter: str, unknown: Message, place: str) -> None:
    """Read SPP_net's ``conv_param`` and the like, which are V1's messages in a V0 layer."""
    own = message_class("V1LayerParameter")()
    blank = "\n" * (unknown.line - 1) + " " * (unknown.column - 1)
    text = parameter + unknown.text.removeprefix(unknown.name)
    parse_into(own, blank + text, place.rsplit(":", 2)[0])
    v1.MergeFrom(own)


def _layer_type(v0: Message) -> int:
    if v0.type not in TYPES:
        message = f"Caffe's V0 format has no such layer type; it has {', '.join(sorted(TYPES))}"
        raise net_error(v0, message, "type")
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
                raise net_error(
                    entry.layer, f"unknown bottom {blob!r}: no input or earlier top has it"
                )
            writer = writers[blob]
            if writer is not None and writer.layer.type == "padding":
                _fold(writer, entry)
        writers.update(dict.fromkeys(entry.top, entry))
    replace_all(net.layers, [entry for entry in net.layers if entry.layer.type != "padding"])


def _fold(padding: Message, reader: Message) -> None:
    if reader.layer.type not in ("conv", "pool"):
        raise net_error(
            reader.layer,
            f"it reads the padding layer {padding.layer.name!r}, which only a conv or pool layer "
            "can; set pad on such a layer instead",
        )
    if len(reader.bottom) != 1:
        raise net_error(
            reader.layer, f"it has {len(reader.bottom)} bottoms; one that is padded must be alone"
        )
    if (len(padding.bottom), len(padding.top)) != (1, 1):
        raise net_error(
            padding.layer,
            f"{len(padding.bottom)} bottoms and {len(padding.top)} tops; padding has one of each",
        )
    reader.layer.pad = padding.layer.pad
    reader.bottom[0] = padding.bottom[0]
