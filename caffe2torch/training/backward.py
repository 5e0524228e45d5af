"""What the backward pass of a net computes: which layers, bottoms and learned blobs (net.cpp)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caffe2torch.graph import Graph, Node, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import GradientSharing


@dataclass(frozen=True)
class Needs:
    """What backward computes of one layer.

    ``layer`` says whether the layer takes part at all, ``propagate`` for each bottom whether its
    gradient is asked for, ``learns`` the same for each learned blob.
    """

    layer: bool
    propagate: tuple[bool, ...]
    learns: tuple[bool, ...]


def needs_of(
    layers: Iterable[tuple[Message, Node | None]], graph: Graph, *, force: bool
) -> list[Needs]:
    """The needs of a net's layers, in their order, as Net::Init finds them.

    A layer takes part if a blob of it learns, or a bottom depends on one that does, and if a loss
    depends on it. Each layer's own ``lr_mult`` decides, also where it shares the blob.

    Args:
        layers: the layers with the Splits that Caffe inserts, each with its node; data layers
            and inserted Splits may have none.
        graph: the net.
        force: the net's ``force_backward``: gradients of all that has one.
    """
    needing: set[str] = set()
    known = list(layers)
    found: list[Needs] = []
    for proto, node in known:
        needed = [name in needing for name in proto.bottom]
        propagate = [bool(flag) for flag in proto.propagate_down] or needed
        rates = [_lr_mult(proto, index) for index in range(_blob_count(node, graph))]
        # Statistics that state no rate count as if they learned, in Caffe too.
        is_needed = any(needed) or any(rates)
        if is_needed:
            needing.update(proto.top)
        learns = _of_gradients([rate != 0 for rate in rates], node, graph)
        found.append(Needs(is_needed, tuple(propagate), learns))
    return [
        _whole(one, node, graph)
        if force or (node is not None and one.layer and node.layer.whole_backward)
        else one
        for (_, node), one in zip(known, _without_idle(known, found), strict=True)
    ]


def _whole(one: Needs, node: Node | None, graph: Graph) -> Needs:
    """The needs of a layer of which all gradients are computed."""
    propagate = tuple(
        wanted or node is None or index not in node.layer.unforced_bottoms
        for index, wanted in enumerate(one.propagate)
    )
    return Needs(True, propagate, _of_gradients([True] * len(one.learns), node, graph))


def open_cuts(layers: Iterable[tuple[Message, Node | None]], needs: Iterable[Needs]) -> None:
    """Take back ``propagate_down: false`` in nodes where Caffe adds the gradient all the same.

    A layer with a whole backward writes it into the blob, and the layer that makes the blob, a
    Split where others read it too, hands it on if it takes part.
    """
    running: set[str] = set()
    for (proto, node), one in zip(layers, needs, strict=True):
        if node is not None and one.layer and node.layer.whole_backward:
            for index in node.cut:
                if proto.bottom[index] in running:
                    node.proto.propagate_down[index] = True
        running.difference_update(proto.top)
        if one.layer:
            running.update(proto.top)


def statistics_of(node: Node, bottoms: Sequence[Shape]) -> tuple[int, ...]:
    """Which learned blobs of a layer are statistics, which no gradient reaches (BatchNorm)."""
    return tuple(
        index
        for index, spec in enumerate(node.layer.blob_specs(bottoms))
        if spec.name in node.layer.buffers or spec.name not in node.params
    )


def _of_gradients(learns: Sequence[bool], node: Node | None, graph: Graph) -> tuple[bool, ...]:
    """``learns``, but not for statistics."""
    statistics = () if node is None else statistics_of(node, _bottoms(node, graph))
    return tuple(flag and index not in statistics for index, flag in enumerate(learns))


def _without_idle(
    layers: Sequence[tuple[Message, Node | None]], needs: Sequence[Needs]
) -> list[Needs]:
    """Leave out layers below no loss, and those none of whose tops is propagated through."""
    below: set[str] = set()
    skipped: set[str] = set()
    found = []
    for (proto, node), one in zip(reversed(layers), reversed(needs), strict=True):
        contributes = _is_loss(proto, node) or any(top in below for top in proto.top)
        if not contributes or all(top in skipped for top in proto.top):
            one = Needs(False, (False,) * len(proto.bottom), one.learns)
        if contributes:
            below.update(proto.bottom)
        skipped.update(
            name for name, wanted in zip(proto.bottom, one.propagate, strict=True) if not wanted
        )
        found.append(one)
    return found[::-1]


def check_gradients(node: Node, needs: Needs) -> None:
    """Raise UnsupportedLayerError where a bottom's gradient is asked for that Caffe does not have.

    Caffe ends the process then, in the layer's Backward: labels and indices have none.
    """
    barred, count = node.layer.barred_bottoms, len(needs.propagate)
    for index, is_wanted in enumerate(needs.propagate):
        if needs.layer and is_wanted and not barred.isdisjoint((index, index - count)):
            raise node.layer.unsupported(
                f"a gradient of bottom {index}, {node.proto.bottom[index]!r}, is asked for, and "
                "Caffe ends here, as it has none; state propagate_down: false for this bottom and "
                "leave out force_backward",
                "propagate_down",
            )


def check_weights(graph: Graph, needs: Sequence[Needs]) -> None:
    """Raise UnsupportedLayerError where a backward pass in place overwrites a stated loss weight.

    Caffe keeps the weight as the gradient of the top, and sets it once: from the second pass on
    the weight is the gradient that the layer in place has left there. A Flatten or Reshape shares
    that memory; a Split, which Caffe inserts where a layer reads the top, does not. ``needs`` are
    those of the nodes.
    """
    read = {name for node in graph.nodes for name in node.inputs}
    first: dict[str, str] = {}
    weighted: dict[str, Node] = {}
    changed: dict[str, Node] = {}
    for node, need in zip(graph.nodes, needs, strict=True):
        weights = [*node.proto.loss_weight, *[0.0] * len(node.outputs)]
        for position, (value, weight) in enumerate(zip(node.outputs, weights, strict=False)):
            in_place = node.is_in_place(position)
            sums = node.layer.gradient_sharing is GradientSharing.BY_SUM
            if in_place or (node.layer.shares_memory and not sums):
                source = node.inputs[position if in_place else 0]
                first[value] = first.get(source, source)
            memory = first.get(value, value)
            if in_place and need.layer and need.propagate[position]:
                changed[memory] = node
            if weight and value not in read:
                weighted[memory] = node
    for memory, node in weighted.items():
        if memory in changed:
            raise changed[memory].layer.unsupported(
                f"it works in place where the loss_weight of layer {node.layer.name!r} stands, "
                "which its gradient replaces, so that Caffe has another weight in each pass; give "
                "it a top of its own",
                "top",
            )


def _is_loss(proto: Message, node: Node | None) -> bool:
    return any(proto.loss_weight or [0 if node is None else node.layer.default_loss_weight])


def _blob_count(node: Node | None, graph: Graph) -> int:
    return 0 if node is None else len(node.layer.blob_specs(_bottoms(node, graph)))


def _bottoms(node: Node, graph: Graph) -> list[Shape]:
    return [graph.shapes[name] for name in node.inputs]


def _lr_mult(proto: Message, index: int) -> float:
    return float(proto.param[index].lr_mult) if index < len(proto.param) else 1.0
