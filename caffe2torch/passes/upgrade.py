"""The legacy upgrade: any generation of NetParameter in the current form.

Caffe's nets were written in three generations: V0 (``layers { layer { type: "conv" } }``),
V1 (``layers { type: CONVOLUTION }``) and V2 (``layer { type: "Convolution" }``). The steps
are Caffe's own, in Caffe's order (Caffe: upgrade_proto.cpp).
"""

from __future__ import annotations

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message
from caffe2torch.passes.upgrade_batch_norm import upgrade_batch_norm
from caffe2torch.passes.upgrade_data import upgrade_data
from caffe2torch.passes.upgrade_input import upgrade_input
from caffe2torch.passes.upgrade_v0 import upgrade_v0
from caffe2torch.passes.upgrade_v1 import upgrade_v1

STEPS = (upgrade_v0, upgrade_data, upgrade_v1, upgrade_input, upgrade_batch_norm)


def upgrade_net(net: Message) -> Message:
    """An upgraded copy of a NetParameter: ``layer`` entries only, inputs as an Input layer.

    V0 padding layers vanish, so match layers with those of the file by name. Raises NetError
    where Caffe would refuse the net.
    """
    _check_one_generation(net)
    upgraded = type(net)()
    upgraded.CopyFrom(net)
    for step in STEPS:
        step(upgraded)
    return upgraded


def blob_owner_names(net: Message) -> list[str]:
    """The layer name of every entry of the file's own layer list, before any upgrade."""
    if net.layers:
        return [entry.layer.name if entry.HasField("layer") else entry.name for entry in net.layers]
    return [layer.name for layer in net.layer]


def _check_one_generation(net: Message) -> None:
    if net.layers and net.layer:
        raise NetError(
            f"the net has both 'layers' (first: {blob_owner_names(net)[0]!r}) and 'layer' entries "
            f"(first: {net.layer[0].name!r}), which Caffe refuses; write them all as "
            'layer { type: "..." }'
        )
    old = [entry.HasField("layer") for entry in net.layers]
    if any(old) and not all(old):
        entry = net.layers[old.index(False)]
        raise NetError(
            f"the net has V0 entries, layers {{ layer {{ ... }} }}, but layer {entry.name!r} is "
            "not one, and Caffe would drop its parameters; write all layers in one form"
        )
