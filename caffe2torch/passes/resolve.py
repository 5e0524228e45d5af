"""From layer messages to resolved layers: types known, blobs in single assignment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.io.schema import Message
from caffe2torch.io.unknown import describe
from caffe2torch.layers import Layer, Role, find_layer, net_error, type_name, unsupported
from caffe2torch.layers._data import UnknownSource
from caffe2torch.passes.draft import Draft, DraftNode
from caffe2torch.passes.filter_layers import other_state
from caffe2torch.passes.naming import unused

MAX_SHOWN = 20
"""Unknown fields that an error lists: enough to act on."""

AUTOMATIC = "(automatic)"
"""Caffe's name for the top of a loss that declares none; it is never an output."""


def resolve(draft: Draft) -> None:
    """Resolve every layer of a filtered V2 net and connect them by value.

    A blob that is changed in place has a value for each version; the last has its name. Raises
    NetError where Caffe would refuse the net, and UnsupportedLayerError for a parameter without
    a conversion. Before::

        layer { name: "c" type: "Convolution" bottom: "x" top: "y" }
        layer { name: "r" type: "ReLU" bottom: "y" top: "y" }

    After: the nodes c, x -> y@c, and r, y@c -> y.
    """
    _Connector(draft).connect()


def class_of(proto: Message) -> type[Layer] | None:
    """The class that converts a layer; None if there is none."""
    return find_layer(type_name(proto))


def role_of(proto: Message) -> Role:
    """What a layer is to the net; one of an unknown type without bottoms makes up its tops."""
    cls = class_of(proto)
    if cls is not None:
        return cls.role_of(proto)
    return Role.COMPUTE if proto.bottom else Role.SAMPLE


def unknown_fields(proto: Message) -> list[Message]:
    """The UnknownFields of a layer that its class does not declare."""
    cls = class_of(proto)
    declared = cls.parameters if cls is not None else None
    return [f for f in proto.unknown_field if declared is None or not declared.claims(f)]


def resolve_layer(proto: Message) -> Layer:
    """The resolved layer of one LayerParameter; its ``phase`` must be set."""
    if role_of(proto) is Role.SAMPLE:
        return UnknownSource.from_proto(proto)
    cls = class_of(proto)
    if cls is None:
        raise unsupported(proto, f"layer type {type_name(proto)!r} is not supported.", "type")
    if unknown := unknown_fields(proto):
        in_binary = unknown[0].HasField("number")
        advice = "correct its spelling, or remove it if it does not."
        error = unsupported(
            proto,
            f"unknown parameter {', '.join(map(describe, unknown[:MAX_SHOWN]))}. It may change "
            f"what the layer computes: {'give the prototxt of the net.' if in_binary else advice}",
        )
        if unknown[0].HasField("line"):
            error.near = f"{proto.place}:{unknown[0].line}:{unknown[0].column}"
        raise error
    _check_count(proto, "bottom", len(proto.bottom), cls.bottoms)
    least, most = cls.tops
    _check_count(proto, "top", len(proto.top), (least, None if cls.role is Role.DATA else most))
    if cls.same_bottoms_and_tops and len(proto.bottom) != len(proto.top):
        raise net_error(
            proto,
            f"has {len(proto.bottom)} bottoms and {len(proto.top)} tops; Caffe wants as many "
            "tops as bottoms.",
            "top",
        )
    _check_one_each(proto, "propagate_down", len(proto.propagate_down), "bottom", len(proto.bottom))
    weights = len(proto.loss_weight) or int(cls.default_loss_weight != 0)
    _check_one_each(proto, "loss_weight", weights, "top", max(len(proto.top), 1))
    return cls.from_proto(proto)


def _check_count(proto: Message, what: str, count: int, limits: tuple[int, int | None]) -> None:
    least, most = limits
    if count < least or (most is not None and count > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        wanted = str(least) if least == most else wanted
        raise net_error(proto, f"has {count} {what}s; this type takes {wanted}.", what)


def _check_one_each(proto: Message, field: str, count: int, what: str, wanted: int) -> None:
    """Raise NetError unless ``field`` is given not at all or once for each of ``wanted``."""
    if count not in (0, wanted):
        given = f"is given {count} times" if len(getattr(proto, field)) else "is 1 by default"
        raise net_error(
            proto, f"{given}, and the layer has {wanted} {what}s; give one for each {what}.", field
        )


class _Connector:
    """Replays Caffe's Net::Init: which blob versions exist, who reads them, what is left."""

    def __init__(self, draft: Draft) -> None:
        self.layers = layers = draft.net.layer
        self.draft = draft
        self.value: dict[str, str] = {}
        self.available: set[str] = set()
        self.memory: dict[str, int] = {}
        self.producers: dict[str, DraftNode] = {}
        self.repeats: dict[str, int] = {}
        self.overwritten: dict[int, tuple[str, str]] = {}
        self.used_names: set[str] = {top for proto in layers for top in proto.top}
        self.readers, self.read_losses = _count_readers(layers)
        self.last_writer = {
            top: i for i, proto in enumerate(layers) for top in proto.top if top != AUTOMATIC
        }

    def connect(self) -> None:
        for index, proto in enumerate(self.layers):
            self._add(index, proto)
        outputs = self.draft.options.outputs
        self._check_overwritten(outputs or self.available)
        for index, position in self.read_losses:
            self._write_loss(self.layers[index], position)
        self.draft.blobs = {b: v for b, v in self.value.items() if not self._changed_by(b)}
        self.draft.outputs = outputs or tuple(sorted(self.available, key=str.encode))

    def _add(self, index: int, proto: Message) -> None:
        for position, bottom in enumerate(proto.bottom):
            if bottom not in self.value:
                raise net_error(
                    proto,
                    f"reads the blob {bottom!r} (bottom {position}), which no layer before it "
                    f"produces.{self._maker(bottom)}",
                    "bottom",
                )
        layer = resolve_layer(proto)
        inputs = tuple(self.value[bottom] for bottom in proto.bottom)
        self._check_overwritten(proto.bottom)
        self.available.difference_update(proto.bottom)
        is_source = layer.role in (Role.INPUT, Role.DATA)
        outputs = tuple(
            self._write(index, proto, position, is_source)
            for position, top in enumerate(proto.top)
            if layer.role is not Role.DATA or top not in self.draft.unfed
        )
        self._track_memory(proto, layer, inputs, outputs)
        node = DraftNode(proto, layer, inputs, outputs)
        if not is_source:
            self.producers.update(dict.fromkeys(outputs, node))
        (self.draft.sources if is_source else self.draft.nodes).append(node)

    def _maker(self, blob: str) -> str:
        """Who would produce a blob that no layer of the net does before it is read."""
        feed = f" It can be fed: --input-shape {blob}=N,C,H,W gives its shape."
        if self.draft.options.runs:
            feed = " Correct its name, or make it by a data layer, or one of the type Input."
        for proto in self.draft.excluded:
            if blob in proto.top:
                state = other_state(proto, self.draft.state)
                return f" The layer {proto.name!r} ({type_name(proto)}), which does, {state}.{feed}"
        for proto in self.layers:
            if blob in proto.top and blob not in proto.bottom:
                return f" The layer {proto.name!r}, which does, comes later: move it up."
        return feed

    def _write(self, index: int, proto: Message, position: int, is_source: bool) -> str:
        top = str(proto.top[position])
        in_place = _is_in_place(proto, position)
        if top in self.value and not in_place:
            raise net_error(
                proto,
                f"writes the blob {top!r}, which another layer has written already. Rename one.",
                "top",
            )
        if in_place and self.readers[index, top] > 1:
            raise net_error(
                proto,
                f"changes the blob {top!r} in place although another layer reads it too; Caffe "
                "refuses such a net. Give the layer a top of its own.",
                "top",
            )
        input_of_name = any(top in source.outputs for source in self.draft.sources)
        is_last = self.last_writer[top] == index
        name = top
        if not is_source and (not is_last or input_of_name):
            name = unused(f"{top}@{proto.name}", "'", self.used_names, self.repeats)
            self.used_names.add(name)
        self.value[top] = name
        self.available.add(top)
        return name

    def _write_loss(self, proto: Message, position: int) -> None:
        """Report a loss that layers read, under the name of the Split's top that Caffe adds."""
        top = proto.top[position]
        name = f"{top}_{proto.name}_{position}_split_0"
        if name in self.value:
            raise net_error(
                proto, f"the loss {top!r}, which is read, is an output {name!r}; rename that blob."
            )
        self.value[name] = self.value[top]
        self.available.add(name)

    def _track_memory(
        self, proto: Message, layer: Layer, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> None:
        for position, output in enumerate(outputs):
            in_place = _is_in_place(proto, position)
            if in_place:
                self._check_in_place(proto, layer, position, inputs)
            if inputs and (in_place or layer.shares_memory):
                self.memory[output] = self.memory[inputs[position if in_place else 0]]
            else:
                self.memory[output] = len(self.memory)
            if in_place and not layer.shares_memory:
                self.overwritten[self.memory[output]] = (output, proto.name)

    def _check_in_place(
        self, proto: Message, layer: Layer, position: int, inputs: tuple[str, ...]
    ) -> None:
        """Refuse a layer that overwrites in place what it has still to read."""
        if layer.shares_memory:
            return
        top, changed = proto.top[position], self.memory[inputs[position]]
        if not layer.works_in_place:
            raise unsupported(
                proto,
                f"computes the blob {top!r} in place, where Caffe overwrites what it still reads; "
                "the result is not what the layer is for. Give the top another name.",
                "top",
            )
        others = (
            b
            for b, v in zip(proto.bottom, inputs, strict=True)
            if b != top and self.memory[v] == changed
        )
        if alias := next(others, None):
            raise unsupported(
                proto,
                f"changes the blob {top!r} in place while it reads the same memory as {alias!r} "
                "(through Reshape, Flatten or Split). Give the top another name.",
                "top",
            )

    def _check_overwritten(self, blobs: Iterable[str]) -> None:
        """Refuse a read of memory that an in-place layer changed through another blob."""
        for blob in blobs:
            if layer := self._changed_by(blob):
                raise UnsupportedLayerError(
                    f"changes the memory of the blob {blob!r} in place through an alias "
                    f"(Reshape, Flatten or Split), and {blob!r} is used afterwards. Give the "
                    "layer a top of its own.",
                    layer=layer,
                )

    def _changed_by(self, blob: str) -> str | None:
        """The layer that changed the blob's memory in place through another blob, if one did."""
        value = self.value[blob]
        changed = self.overwritten.get(self.memory[value])
        return changed[1] if changed and not self._descends(value, changed[0]) else None

    def _descends(self, value: str, ancestor: str) -> bool:
        """Whether ``value`` is ``ancestor`` or was made from it, so that it has the change."""
        pending, seen = [value], {value}
        while pending:
            current = pending.pop()
            if current == ancestor:
                return True
            if current in self.producers and self.memory[current] == self.memory[ancestor]:
                new = set(self.producers[current].inputs) - seen
                seen |= new
                pending.extend(new)
        return False


def _is_in_place(proto: Message, position: int) -> bool:
    """Whether the layer writes the top at ``position`` over the bottom there."""
    return bool(proto.bottom[position : position + 1] == proto.top[position : position + 1])


def _count_readers(
    layers: Sequence[Message],
) -> tuple[dict[tuple[int, str], int], list[tuple[int, int]]]:
    """How many read the version of a blob that layer ``index`` reads; the losses that are read.

    A loss, which is a top with a weight given, counts as a reader of that top. The losses are
    indices of a layer and a top.
    """
    version = Counter[str]()
    counts = Counter[tuple[str, int]]()
    read: dict[tuple[int, str], tuple[str, int]] = {}
    losses: dict[tuple[int, int], tuple[str, int]] = {}
    for index, proto in enumerate(layers):
        for bottom in proto.bottom:
            read[index, bottom] = bottom, version[bottom]
            counts[read[index, bottom]] += 1
        version.update(proto.top)
        for position, (top, weight) in enumerate(zip(proto.top, proto.loss_weight, strict=False)):
            if weight:
                losses[index, position] = top, version[top]
                counts[top, version[top]] += 1
    readers = {place: counts[key] for place, key in read.items()}
    return readers, [place for place, key in losses.items() if counts[key] > 1]
