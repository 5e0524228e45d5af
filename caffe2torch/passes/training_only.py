"""What a net for inference does not need: sources become inputs, ends of training are left out."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message, replace_all
from caffe2torch.io.unknown import describe
from caffe2torch.layers import Layer, Role, net_error, type_name, unsupported
from caffe2torch.passes.draft import Draft
from caffe2torch.passes.resolve import MAX_SHOWN, class_of, role_of, unknown_fields
from caffe2torch.passes.upgrade import OF_A_FORK, similar_type

END_WORDS = frozenset(
    "accuracy debug entropy eval evaluate evaluation evaluator loss losses metric metrics monitor "
    "print silence visualisation visualise visualization visualize visualizer".split()
)
"""Words in a layer's type, or at the end of its name, of what only training and tests need."""

TARGET_WORDS = frozenset({"annotator", "target", "targets"})
"""Words in the type of a layer that makes what a loss compares with: such tops are all read."""

LABEL_WORDS = frozenset(
    "annotation annotations groundtruth gt label labels lbl target targets truth".split()
)
"""Words in the name of a blob of a data set that does not exist at inference."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

SOURCES = (Role.INPUT, Role.DATA, Role.SAMPLE)

Value = tuple[int, str]
"""A version of a blob: the index of the layer that writes it, and its name."""


class Fate(Enum):
    """What becomes of a layer."""

    KEPT = "kept"
    INPUT = "its tops become inputs"
    LEFT_OUT = "left out"
    REFUSED = "refused"


@dataclass(frozen=True)
class Plan:
    """What becomes of each layer of a net, and the tops of its sources that nothing needs."""

    fates: Sequence[Fate]
    unfed: frozenset[str]
    ends: frozenset[int]
    """Of the layers that are left out, those whose types alone would have to be refused."""


def leave_out_training(draft: Draft) -> None:
    """Leave out losses that want labels of a data set, and what only serves them.

    A layer of an unknown type without bottoms is a source, as a layer is that draws at random
    (``Role.SAMPLE``): its tops become inputs. So do the tops of a data layer, but for those that
    only losses and their like read. An unknown layer is an end, and left out, where nothing that
    stays reads its tops, and where it has no tops, has a loss_weight, has a type or a name that
    says so (Loss, Accuracy, ...), or reads labels. So is a loss with more bottoms or tops than its
    type has in Caffe: those of forks read weights, or give each item's loss. Unknown fields of
    sources, and tops beyond Caffe's, do not matter.
    Warnings say what was unknown and is an input or left out. Raises UnsupportedLayerError that
    names all other layers of unknown types, and NetError if nothing is left. Before::

        layer { name: "d" type: "Data" top: "x" top: "label" }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }

    After: the same without ``loss``, and ``label`` is not fed.
    """
    layers = list(draft.net.layer)
    plan = make_plan(layers, draft.options.outputs)
    _refuse(layers, plan)
    draft.unfed = plan.unfed
    draft.warnings += _warnings(layers, plan)
    kept = []
    for proto, fate in zip(layers, plan.fates, strict=True):
        if fate is Fate.INPUT:
            unknown = unknown_fields(proto)
            replace_all(proto.unknown_field, [f for f in proto.unknown_field if f not in unknown])
            proto.ClearField("bottom")
        elif role_of(proto) is Role.INPUT:
            _remove_tops(proto, plan.unfed)
        if fate is Fate.LEFT_OUT:
            draft.left_out.add(proto.name)
        else:
            kept.append(proto)
    if layers and not kept:
        raise NetError(
            "nothing of the net is left for inference: its layers only feed and judge a training. "
            "Give a deploy prototxt, or --until with a blob to convert."
        )
    replace_all(draft.net.layer, kept)


def make_plan(layers: Sequence[Message], wanted: Collection[str] = ()) -> Plan:
    """What becomes of the layers of a filtered V2 net; the blobs ``wanted`` stay."""
    return _Planner(layers, frozenset(wanted)).plan()


class _Planner:
    """Who reads what, and what follows from it."""

    def __init__(self, layers: Sequence[Message], wanted: frozenset[str]) -> None:
        self.layers = layers
        self.classes = [None if _of_a_fork(proto) else class_of(proto) for proto in layers]
        self.roles = [role_of(proto) for proto in layers]
        self.reads: list[list[Value]] = []
        self.readers: dict[Value, list[int]] = defaultdict(list)
        last: dict[str, int] = {}
        for index, proto in enumerate(layers):
            blobs = [] if self._is_source(index) else proto.bottom
            self.reads.append([(last[blob], blob) for blob in blobs if blob in last])
            for value in self.reads[index]:
                self.readers[value].append(index)
            last.update(dict.fromkeys(proto.top, index))
        self.wanted = {(last[blob], blob) for blob in wanted if blob in last}

    def plan(self) -> Plan:
        """Where dropping the ends would leave nothing, they are the net, and refused."""
        everything = range(len(self.layers))
        sources = [index for index in everything if self._is_source(index)]
        candidates = self._candidates()
        droppable = self._droppable(candidates)
        ends = candidates & droppable
        gone = {
            value
            for index in sources
            for position, value in enumerate(self._tops(index))
            if self._is_unfed(index, position, value, ends, droppable)
        }
        left_out = set(ends)
        for index in everything:
            if index in ends or not gone.isdisjoint(self.reads[index]):
                left_out.add(index)
                gone.update(self._tops(index))
        for index in sources:
            tops = self._tops(index)
            unread = [value for value in tops if left_out.issuperset(self.readers[value])]
            gone.update(value for value in unread if self.readers[value] or self.wanted)
            gone -= self.wanted
            if gone.issuperset(tops):
                left_out.add(index)
        if ends and left_out.union(sources).issuperset(everything):
            left_out, ends, gone = left_out - ends - set(sources), set(), set()
        fates = [Fate.LEFT_OUT if index in left_out else Fate.KEPT for index in everything]
        for index in set(everything) - left_out:
            if self.roles[index] in (Role.DATA, Role.SAMPLE):
                fates[index] = Fate.INPUT
            elif class_of(self.layers[index]) is None:
                fates[index] = Fate.REFUSED
        unfed = frozenset(blob for index, blob in gone if index in sources)
        return Plan(fates, unfed, frozenset(ends))

    def _is_source(self, index: int) -> bool:
        return self.roles[index] in SOURCES

    def _tops(self, index: int) -> list[Value]:
        return [(index, str(top)) for top in self.layers[index].top]

    def _candidates(self) -> set[int]:
        """Layers that are ends, if nothing that stays reads them."""
        labels: set[Value] = set()
        made: set[Value] = set()
        candidates = set()
        for index, cls in enumerate(self.classes):
            reads, tops = self.reads[index], self._tops(index)
            if self._is_source(index):
                labels.update(v for p, v in enumerate(tops) if self._is_label(index, p))
            elif cls is None or not cls.converts:
                is_end = cls is not None or not tops or not labels.isdisjoint(reads)
                if is_end or not made.isdisjoint(reads) or self._says_end(index):
                    candidates.add(index)
                    made.update(tops)
            elif reads and labels.issuperset(reads):
                labels.update(tops)
            elif reads and cls.role is Role.COMPUTE and (labels | made).issuperset(reads):
                made.update(tops)
        self.labels, self.made = labels, made
        return candidates

    def _is_label(self, index: int, position: int) -> bool:
        """Whether a top of a source is a label, by its place or its name."""
        if self.roles[index] is Role.INPUT:
            return False
        cls = self.classes[index]
        if cls is not None and cls.role is Role.DATA and cls.tops[1] is not None:
            return position > 0  # Layers of any number of tops have them in any order.
        return not LABEL_WORDS.isdisjoint(_words(self.layers[index].top[position]))

    def _says_end(self, index: int) -> bool:
        """Whether a layer of an unknown type calls itself one of training or tests."""
        proto = self.layers[index]
        if any(proto.loss_weight):
            return True
        words = _words(type_name(proto).rpartition(".")[2])
        if not END_WORDS.isdisjoint(words) or _words(proto.name)[-1:] in (["loss"], ["accuracy"]):
            return True
        return self._all_read(index) and not TARGET_WORDS.isdisjoint(words)

    def _all_read(self, index: int) -> bool:
        return all(self.readers[value] for value in self._tops(index))

    def _droppable(self, candidates: set[int]) -> set[int]:
        """Layers without which all that stays can be computed.

        What learns weights is the net itself, unless all that it reads is labels.
        """
        droppable: set[int] = set()
        for index in reversed(range(len(self.layers))):
            cls, tops = self.classes[index], self._tops(index)
            if self._is_source(index) or not self.wanted.isdisjoint(tops):
                continue
            if index in candidates or (cls is not None and self._ends_known(index, cls)):
                readers = {reader for value in tops for reader in self.readers[value]}
                if droppable.issuperset(readers):
                    droppable.add(index)
        return droppable

    def _ends_known(self, index: int, cls: type[Layer]) -> bool:
        """Whether a layer of a known type may go if all that reads it goes.

        What unknown layers made, as targets of a loss, may pass through layers that read nothing
        else: what mixes it with the net's own blobs is a part of the net.
        """
        reads, proto = self.reads[index], self.layers[index]
        is_loss = self.roles[index] is Role.LOSS
        if is_loss or not proto.top or self.labels.issuperset(reads):
            return True
        if not self.made.isdisjoint(reads) and not (self.labels | self.made).issuperset(reads):
            return False
        is_read = self._all_read(index) or any(proto.loss_weight)
        return is_read and cls.blob_specs is Layer.blob_specs

    def _is_unfed(
        self, index: int, position: int, value: Value, ends: set[int], droppable: set[int]
    ) -> bool:
        """Whether a source's top need not be fed: it is a label, or nothing reads it."""
        role, readers = self.roles[index], self.readers[value]
        if role is Role.INPUT or value in self.wanted:
            return False
        if not readers:
            return role is not Role.DATA or position > 0
        if not droppable.issuperset(readers):
            return False
        return value in self.labels or all(
            reader in ends or self._compares(reader, value) for reader in readers
        )

    def _compares(self, index: int, value: Value) -> bool:
        """Whether a loss, or a layer without tops, reads ``value`` to compare something with it.

        A first bottom is what is judged, unless something is computed beside it.
        """
        cls, reads = self.classes[index], self.reads[index]
        if not self.layers[index].top and cls is not None and cls.role is Role.COMPUTE:
            return True
        if self.roles[index] is not Role.LOSS:
            return False
        return reads[0] != value or any(not self._is_source(writer) for writer, _ in reads)


def _of_a_fork(proto: Message) -> bool:
    """Whether a layer has the name of a known loss, and more bottoms or tops than that can have."""
    cls = class_of(proto)
    if cls is None or cls.role is not Role.LOSS:
        return False
    counts = (len(proto.bottom), cls.bottoms[1]), (len(proto.top), cls.tops[1])
    return any(most is not None and count > most for count, most in counts)


def _remove_tops(proto: Message, unfed: Collection[str]) -> None:
    """Take tops out of an Input layer, with their shapes."""
    shapes, kept = proto.input_param.shape, [i for i, t in enumerate(proto.top) if t not in unfed]
    if len(shapes) == len(proto.top):
        replace_all(shapes, [shapes[i] for i in kept])
    proto.top[:] = [proto.top[i] for i in kept]


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _refuse(layers: Sequence[Message], plan: Plan) -> None:
    """Raise UnsupportedLayerError that names every unknown type of the layers that stay."""
    for proto in layers:
        if not proto.type:
            raise net_error(
                proto,
                "has no type. A file that holds only weights needs its net: give its prototxt.",
            )
    refused = [p for p, fate in zip(layers, plan.fates, strict=True) if fate is Fate.REFUSED]
    if not refused:
        return
    counts = Counter(type_name(proto) for proto in refused)
    first = refused[0]
    kind = type_name(first)
    others = [f"{name!r} ({count})" for name, count in counts.items() if name != kind]
    fed = {top for proto in layers if role_of(proto) in SOURCES for top in proto.top}
    made = {top for proto in layers for top in proto.top if first.name != proto.name} - fed
    before = [blob for blob in first.bottom if blob in made]
    more = f" (nor are {', '.join(others[:MAX_SHOWN])})" if others else ""
    until = f", or the net converted up to a blob before it: --until {before[0]}" if before else ""
    if kind.endswith(OF_A_FORK):
        raise unsupported(
            first,
            f"layer type {kind!r} is not supported{more}: this file tells only a number for the "
            "type, which each fork gave to another one. Give the net's prototxt, which has its "
            f"name{until}.",
            "type",
        )
    alike = f"; did you mean {similar!r}?" if (similar := similar_type(kind)) else "."
    raise unsupported(
        first,
        f"layer type {kind!r} is not supported{more}{alike} `caffe2torch layers` lists the types "
        f"that are; a conversion of your own can be added with --plugin{until}.",
        "type",
    )


def _warnings(layers: Sequence[Message], plan: Plan) -> list[str]:
    """What was unknown and has become an input, or is left out."""
    found = []
    for proto, fate in zip(layers, plan.fates, strict=True):
        if fate is not Fate.INPUT:
            continue
        cls = class_of(proto)
        name = f"layer {proto.name!r} ({type_name(proto)})"
        unknown = unknown_fields(proto)
        most = cls.tops[1] if cls is not None else None
        if most is not None and len(proto.top) > most:
            found.append(f"{name} has {len(proto.top)} tops; in Caffe it has {most} at most.")
        if cls is None or cls.role is not Role.DATA:
            tops = ", ".join(repr(top) for top in proto.top if top not in plan.unfed)
            why = "is not known" if cls is None else "draws at random"
            found.append(f"{name} {why}: {tops} must be fed.")
        elif unknown:
            fields = ", ".join(map(describe, unknown[:MAX_SHOWN]))
            found.append(f"{name} becomes an input; its unknown fields do not matter: {fields}.")
    ends = [layers[i] for i in sorted(plan.ends)]
    if ends:
        names = ", ".join(f"{p.name!r} ({type_name(p)})" for p in ends[:MAX_SHOWN])
        more = f" and {len(ends) - MAX_SHOWN} more" if len(ends) > MAX_SHOWN else ""
        found.append(f"left out, as they serve training or tests only: {names}{more}.")
    return found
