"""Which layers of a file are in the net: its rules, and what a running Caffe has added."""

from __future__ import annotations

import re

from caffe2torch.io.schema import Message, enum_name, enum_value, message_class, replace_all
from caffe2torch.layers import net_error
from caffe2torch.passes.draft import Draft, State

_INSERTED_LAYER = re.compile(r".+_\d+_split")
_INSERTED_TOP = re.compile(r".+_\d+_split_\d+")


def filter_layers(draft: Draft) -> None:
    """Keep the layers of one state, each with its phase set (Caffe: Net::FilterNet).

    The state's phase and level replace those in the file; its stages are added to them. A
    layer that states a phase of its own keeps it. A snapshot, which a running Caffe wrote, has
    been filtered: a layer whose phase differs from the first layer's had one of its own.
    The others are kept apart, for errors. Raises NetError for a layer with both kinds of rules.
    Before, for the phase TEST::

        layer { name: "d" type: "Data" top: "x" include { phase: TRAIN } }
        layer { name: "a" type: "Accuracy" bottom: "x" top: "a" include { phase: TEST } }

    After::

        layer { name: "a" type: "Accuracy" bottom: "x" top: "a" phase: TEST }
    """
    net, phase = draft.net, enum_value("Phase", draft.state.phase)
    # A running Caffe sets the phase of each layer.
    is_snapshot = len(net.layer) > 0 and all(layer.HasField("phase") for layer in net.layer)
    if draft.options.of_weights and is_snapshot:
        saved = net.layer[0].phase
        for layer in net.layer:
            layer.phase = phase if layer.phase == saved else layer.phase
    else:
        state = net.state
        state.phase, state.level = phase, draft.state.level
        state.stage.extend(draft.state.stages)
        layers = list(net.layer)
        replace_all(net.layer, [layer for layer in layers if _included(layer, state)])
        draft.excluded = [layer for layer in layers if not _included(layer, state)]
    for layer in net.layer:
        _set_phase(layer, phase)
    net.ClearField("state")


def feed_missing(draft: Draft) -> None:
    """Make an input of each blob that no layer makes, where the caller gives its shape.

    So a net whose data layer is of the other phase alone can be read in this one: the data layer
    comes in, to become an input like others. Before, with ``input_shapes={"x": ...}``::

        layer { name: "c" type: "Convolution" bottom: "x" top: "c" }

    After::

        layer { name: "d" type: "Data" top: "x" top: "label" }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c" }
    """
    layers = list(draft.net.layer)
    made = {top for layer in layers for top in layer.top}
    read = {bottom for layer in layers for bottom in layer.bottom}
    sources: list[Message] = []
    for blob, shape in draft.options.input_shapes.items():
        if blob not in read - made:
            continue
        proto = next((la for la in draft.excluded if blob in la.top and not la.bottom), None)
        if proto is None:
            proto = message_class("LayerParameter")(name=blob, type="Input", top=[blob])
            proto.input_param.shape.add().dim[:] = shape
        _set_phase(proto, enum_value("Phase", draft.state.phase))
        sources.append(proto)
        made.update(proto.top)
    replace_all(draft.net.layer, [*sources, *layers])


def other_state(layer: Message, state: State) -> str:
    """In which state an excluded layer is in the net, and the options that give it."""
    here = f"is not in the net in phase {state.phase}"
    for rule in layer.include:
        phase = enum_name(rule, "phase") if rule.HasField("phase") else state.phase
        options = [f"--phase {phase}"] if phase != state.phase else []
        options += [f"--stage {stage}" for stage in rule.stage if stage not in state.stages]
        if rule.HasField("min_level") and state.level < rule.min_level:
            options.append(f"--level {rule.min_level}")
        if rule.HasField("max_level") and state.level > rule.max_level:
            options.append(f"--level {rule.max_level}")
        if options and not set(rule.not_stage) & set(state.stages):
            return f"{here}, but with {' '.join(options)}"
    if state.stages:
        here += f" with the stages {', '.join(state.stages)}"
    return f"{here}, as its include or exclude rules say"


def remove_splits(draft: Draft) -> None:
    """Undo the Split layers that a running Caffe inserts before it writes a snapshot.

    Only Splits with the names that Caffe's InsertSplits makes are removed, from a weights
    file's own net; a Split that the author wrote is a layer like any other. Before::

        layer { name: "x_r_0_split" type: "Split" bottom: "x"
          top: "x_r_0_split_0" top: "x_r_0_split_1" }
        layer { name: "a" type: "TanH" bottom: "x_r_0_split_0" top: "a" }

    After::

        layer { name: "a" type: "TanH" bottom: "x" top: "a" }
    """
    if not draft.options.of_weights:
        return
    source: dict[str, str] = {}
    kept = []
    for layer in draft.net.layer:
        bottoms = [source.get(bottom, bottom) for bottom in layer.bottom]
        if _inserted(layer):
            source.update(dict.fromkeys(layer.top, bottoms[0]))
            continue
        layer.bottom[:] = bottoms
        kept.append(layer)
    replace_all(draft.net.layer, kept)


def _set_phase(layer: Message, phase: int) -> None:
    layer.phase = layer.phase if layer.HasField("phase") else phase
    layer.ClearField("include")
    layer.ClearField("exclude")


def _included(layer: Message, state: Message) -> bool:
    if len(layer.include) and len(layer.exclude):
        message = "has both include and exclude rules; Caffe allows one kind. Remove one of them."
        raise net_error(layer, message, "include")
    if len(layer.include):
        return any(_meets(state, rule) for rule in layer.include)
    return not any(_meets(state, rule) for rule in layer.exclude)


def _meets(state: Message, rule: Message) -> bool:
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and set(rule.stage) <= set(state.stage)
        and not set(rule.not_stage) & set(state.stage)
    )


def _inserted(layer: Message) -> bool:
    return (
        layer.type == "Split"
        and len(layer.bottom) == 1
        and bool(_INSERTED_LAYER.fullmatch(layer.name))
        and all(_INSERTED_TOP.fullmatch(top) for top in layer.top)
    )
