"""What outlives a pass: the state of recurrent layers, and what in-place layers leave behind."""

from __future__ import annotations

from typing import NamedTuple

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.graph import Graph, Node


class Kept(NamedTuple):
    """A value that the next pass begins with, in place of the top ``top`` of ``node``."""

    node: Node
    top: int
    value: str


def kept_values(graph: Graph) -> list[Kept]:
    """What layers that change a Parameter's or a DummyData's top in place make of it.

    Raises UnsupportedLayerError where other layers share the changed blob: they read it
    before or after the change, depending on their place.
    """
    origin: dict[str, tuple[Node, int]] = {}
    """By value, the top whose memory it is in."""
    kept: dict[tuple[str, int], Kept] = {}
    for node in graph.nodes:
        if node.layer.keeps_tops:
            origin |= {value: (node, top) for top, value in enumerate(node.outputs)}
            continue
        for top, value in enumerate(node.outputs):
            in_place = node.is_in_place(top)
            if not node.inputs or not (in_place or node.layer.shares_memory):
                continue
            source = node.inputs[top if in_place else 0]
            if source in origin:
                origin[value] = owner, place = origin[source]
                if in_place and not node.layer.shares_memory:
                    kept[owner.key, place] = Kept(owner, place, value)
                    _check_alone(graph, owner, node)
    return list(kept.values())


def remembering(graph: Graph) -> list[str]:
    """The names of the layers of whose last pass the next one depends."""
    names = [node.layer.name for node in graph.nodes if node.layer.remembers]
    return list(dict.fromkeys([*names, *(kept.node.layer.name for kept in kept_values(graph))]))


def _check_alone(graph: Graph, owner: Node, changer: Node) -> None:
    for other in graph.nodes:
        shared = set(owner.params.values()) & set(other.params.values())
        if other is not owner and shared:
            raise UnsupportedLayerError(
                f"changes the blob of the layer {owner.layer.name!r} in place, which "
                f"{other.layer.name!r} shares. Give the layer a top of its own.",
                layer=changer.layer.name,
                type=changer.layer.type,
                field="top",
            )
