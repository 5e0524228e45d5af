"""What a net has that is not known, all at once, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

from caffe2torch.errors import printable
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.files import Source, is_text, open_file
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import Message
from caffe2torch.io.unknown import describe
from caffe2torch.layers import type_name
from caffe2torch.passes.draft import TEST, Draft, Options, State
from caffe2torch.passes.filter_layers import filter_layers, remove_splits
from caffe2torch.passes.hints import Hint, HintFinder
from caffe2torch.passes.resolve import class_of, unknown_fields
from caffe2torch.passes.training_only import Fate, make_plan
from caffe2torch.passes.until import keep_until
from caffe2torch.pipeline import UPGRADES, run


def lacking(
    model: Source, state: State = TEST, outputs: tuple[str, ...] = ()
) -> list[dict[str, str | int]]:
    """The unknown layer types and fields of a prototxt or caffemodel in a state, with counts.

    Each has ``kind`` (``type`` or ``field``), ``name`` (``Convolution convolution_param.odd``),
    ``layers``, how many have it, and ``treatment``: ``refused``, or why it is no obstacle. Those
    that are refused come first. Fields of layers that are left out are not listed. ``outputs``
    are as for ``read``.
    """
    text = is_text(bytes(open_file(model)[:4096]))
    net = read_prototxt(model) if text else read_caffemodel(model).net
    draft = Draft(deepcopy(net), None, state, Options(of_weights=not text, outputs=outputs))
    run((*UPGRADES, filter_layers, remove_splits, keep_until), draft)
    layers, find = list(draft.net.layer), HintFinder(draft.net)
    found: Counter[tuple[str, str, str]] = Counter()
    for unknown in draft.net.unknown_field:
        found["field", f"the net's {_name(unknown)}", _treatment(find(draft.net, unknown))] += 1
    for layer, fate in zip(layers, make_plan(layers, outputs).fates, strict=True):
        kind = type_name(layer)
        if class_of(layer) is None:
            found["type", kind, fate.value] += 1
        elif fate is not Fate.LEFT_OUT:
            fields = {
                f"{kind} {_name(unknown)}": "ignored: the layer becomes an input"
                if fate is Fate.INPUT
                else _treatment(find(layer, unknown))
                for unknown in unknown_fields(layer)
            }
            found.update(("field", name, treatment) for name, treatment in fields.items())
    rows = sorted(found.items(), key=lambda item: (item[0][2] != "refused", -item[1], item[0]))
    return [
        {"kind": kind, "name": printable(name), "layers": count, "treatment": treatment}
        for (kind, name, treatment), count in rows
    ]


def _name(unknown: Message) -> str:
    return describe(unknown).partition(" (line ")[0]


def _treatment(hint: Hint | None) -> str:
    return f"ignored: {hint.reason}" if hint else "refused"
