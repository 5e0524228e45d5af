"""Keep the layers whose include and exclude rules fit the net's state (Caffe: Net::FilterNet)."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message, enum_value


def filter_net(net: Message, phase: str, level: int = 0, stages: Sequence[str] = ()) -> Message:
    """Return a copy of ``net`` with the layers of one state, each with its phase set.

    ``phase`` and ``level`` replace those in the file; ``stages`` are added to them. A layer
    that states a phase of its own keeps it.
    """
    state = type(net)().state
    state.CopyFrom(net.state)
    state.phase = enum_value("Phase", phase)
    state.level = level
    state.stage.extend(stages)
    kept = type(net)()
    kept.CopyFrom(net)
    del kept.layer[:]
    for layer in net.layer:
        if _included(layer, state):
            copy = kept.layer.add()
            copy.CopyFrom(layer)
            del copy.include[:]
            del copy.exclude[:]
            if not copy.HasField("phase"):
                copy.phase = state.phase
    kept.ClearField("state")
    return kept


def is_snapshot(net: Message) -> bool:
    """Whether ``net`` was written by a running Caffe, which filters it and sets each phase."""
    return len(net.layer) > 0 and all(layer.HasField("phase") for layer in net.layer)


def unfilter_snapshot(net: Message, phase: str) -> Message:
    """Return a copy of a snapshot's net set to ``phase``: its rules have been applied.

    A layer whose phase differs from the first layer's had one of its own, and keeps it.
    """
    copy = type(net)()
    copy.CopyFrom(net)
    saved = net.layer[0].phase
    for layer in copy.layer:
        del layer.include[:]
        del layer.exclude[:]
        if layer.phase == saved:
            layer.phase = enum_value("Phase", phase)
    copy.ClearField("state")
    return copy


def _included(layer: Message, state: Message) -> bool:
    if len(layer.include) and len(layer.exclude):
        raise NetError(
            "has both include and exclude rules; Caffe allows one kind. Remove one of them.",
            layer=layer.name,
            type=layer.type,
            field="include",
        )
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
