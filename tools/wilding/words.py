"""What a net lacks and why it is refused, in words that equal nets share: none of its own names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.io.schema import Message
from caffe2torch.io.unknown import describe
from caffe2torch.layers import find_layer
from caffe2torch.passes.draft import Draft, Options
from caffe2torch.passes.filter_layers import filter_layers
from caffe2torch.pipeline import UPGRADES, run


def missing(message: Message, of_weights: bool = False) -> list[str]:
    """The layer types, and else the fields, of the net in phase TEST that are not known.

    ``source`` is a type without bottoms, ``last`` one whose tops no layer reads, ``type`` any
    other. Empty where the net is refused before its layers are looked at.
    """
    draft = Draft(deepcopy(message), options=Options(of_weights=of_weights))
    try:
        layers = run((*UPGRADES, filter_layers), draft).net.layer
    except Caffe2TorchError:
        return []
    is_read = {bottom for layer in layers for bottom in layer.bottom}
    found: dict[str, None] = {}
    for layer in layers:
        cls = find_layer(layer.type)
        claims = cls.parameters.claims if cls and cls.parameters else None
        fields = [f for f in layer.unknown_field if claims is None or not claims(f)]
        notes = [plain(describe(field), set()) for field in fields]
        if cls is None:
            role = "type" if is_read.intersection(layer.top) else "last"
            found[f"{role if layer.bottom else 'source'} {_type_name(layer, notes)}"] = None
        else:
            found.update((f"field {layer.type} {note}", None) for note in notes)
    return list(found)


def _type_name(layer: Message, notes: Sequence[str]) -> str:
    """The type as the net writes it: of a Python layer its class, of a V1 layer its number."""
    if layer.type == "Python":
        return f"Python {layer.python_param.module}.{layer.python_param.layer}"
    old = next((note for note in notes if note.startswith("type: ")), "type: none")
    return str(layer.type or f"V1 {old.removeprefix('type: ')}")


def names_of(message: Message) -> set[str]:
    """Names that the net gives to layers and blobs."""
    layers = [*message.layer, *message.layers]
    return {str(n) for layer in layers for n in (layer.name, *layer.bottom, *layer.top)}


def reason_of(error: Caffe2TorchError, names: set[str]) -> str:
    """Why a net was refused, in words that do not depend on the net."""
    if error.field == "type" and error.type:
        named = re.search("layer type '(.+?)' is not supported", error.reason)
        return f"unknown layer type {named[1] if named else error.type}"
    where = ", ".join(filter(None, (error.type, error.field)))
    text = plain(error.reason, names)
    return f"{where}: {text}" if where else text


def plain(text: str, names: set[str]) -> str:
    """The first sentence of ``text`` without places, names of the net, and numbers."""
    text = re.sub(r"^\S.*?\.(prototxt|caffemodel)(:\d+:\d+)?: ", "", text)
    text = re.sub(r" ?\(line \d+, column \d+\)", "", text)
    text = re.split(r"\. |; ", text, maxsplit=1)[0]
    text = re.sub(r"OpenCV\(\S+\) \S+ error: \(.*?\) ", "", text)
    text = re.sub(r"""(['"])([^'"]*)\1""", lambda m: "'...'" if m[2] in names else m[0], text)
    return " ".join(re.sub(r"(?<![\w.])\d+(\.\d+)?(e[+-]?\d+)?\b", "N", text).split())[:200]
