"""Undo the Split layers that a running Caffe inserts before it writes a snapshot."""

from __future__ import annotations

import re

from caffe2torch.io.schema import Message

_INSERTED_LAYER = re.compile(r".+_\d+_split")
_INSERTED_TOP = re.compile(r".+_\d+_split_\d+")


def remove_splits(net: Message) -> Message:
    """Return a copy of ``net`` whose layers read split blobs from their source directly.

    Only Splits with the names that Caffe's InsertSplits makes are removed; a Split that the
    author wrote is a layer like any other.
    """
    copy = type(net)()
    copy.CopyFrom(net)
    del copy.layer[:]
    source: dict[str, str] = {}
    for layer in net.layer:
        bottoms = [source.get(bottom, bottom) for bottom in layer.bottom]
        if _inserted(layer):
            source.update(dict.fromkeys(layer.top, bottoms[0]))
            continue
        kept = copy.layer.add()
        kept.CopyFrom(layer)
        kept.bottom[:] = bottoms
    return copy


def _inserted(layer: Message) -> bool:
    return (
        layer.type == "Split"
        and len(layer.bottom) == 1
        and bool(_INSERTED_LAYER.fullmatch(layer.name))
        and all(_INSERTED_TOP.fullmatch(top) for top in layer.top)
    )
