"""V0 padding layers, folded into the convolution and pooling layers that read them."""

from __future__ import annotations

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message
from caffe2torch.passes._fields import replace_all


def fold_padding_layers(net: Message) -> None:
    """Remove the padding layers of a V0 net, in place; their readers pad instead.

    Raises NetError, as Caffe does, if a bottom is unknown, or if a padding layer has not one
    bottom and one top or is read by anything but a convolution or pooling layer with one
    bottom.
    """
    writers: dict[str, Message | None] = dict.fromkeys(net.input)
    for entry in net.layers:
        for blob in list(entry.bottom):
            if blob not in writers:
                raise _error(entry, f"unknown bottom {blob!r}: no input or earlier top has it")
            writer = writers[blob]
            if writer is not None and writer.layer.type == "padding":
                _fold(writer, entry)
        writers.update(dict.fromkeys(entry.top, entry))
    replace_all(net.layers, [entry for entry in net.layers if entry.layer.type != "padding"])


def _fold(padding: Message, reader: Message) -> None:
    if reader.layer.type not in ("conv", "pool"):
        raise _error(
            reader,
            f"it reads the padding layer {padding.layer.name!r}, which only a conv or pool layer "
            "can; set pad on such a layer instead",
        )
    if len(reader.bottom) != 1:
        raise _error(
            reader, f"it has {len(reader.bottom)} bottoms; one that is padded must be alone"
        )
    if (len(padding.bottom), len(padding.top)) != (1, 1):
        raise _error(
            padding,
            f"{len(padding.bottom)} bottoms and {len(padding.top)} tops; padding has one of each",
        )
    reader.layer.pad = padding.layer.pad
    reader.bottom[0] = padding.bottom[0]


def _error(entry: Message, message: str) -> NetError:
    return NetError(message, layer=entry.layer.name, type=entry.layer.type)
