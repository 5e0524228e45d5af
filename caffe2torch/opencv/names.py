"""The layers of a graph as OpenCV's Caffe reader lists them: names, order, numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from caffe2torch.graph import Graph, Node

INPUT_LAYER = "_input"
INPUT_TYPE = "__NetInputLayer__"
_TYPES = {"ConvolutionDepthwise": "Convolution"}
"""Types that OpenCV gives another name."""


@dataclass(frozen=True)
class Entry:
    """One layer of the list: its number is its place there, from 1.

    ``outputs`` are the graph's values that it shows.
    """

    id: int
    name: str
    type: str
    node: Node
    outputs: tuple[str, ...]


def entries_of(graph: Graph) -> list[Entry]:
    """The layers of ``graph`` as OpenCV 4.14 numbers them.

    Inputs are no layers. A Convolution has the name of its top, and one of several tops is
    listed once for each. A name that was there before gets ``_1``, ``_2`` appended.
    """
    entries: list[Entry] = []
    count: dict[str, int] = {}
    for node in graph.nodes:
        for name, outputs in _names(node):
            repetition = count.get(name, 0)
            count[name] = repetition + 1
            unique = f"{name}_{repetition}" if repetition else name
            type_ = _TYPES.get(node.layer.type, node.layer.type)
            entries.append(Entry(len(entries) + 1, unique, type_, node, outputs))
    return entries


def unconnected(graph: Graph, entries: list[Entry]) -> list[Entry]:
    """The entries that no layer reads anything of."""
    read = {value for node in graph.nodes for value in node.inputs}
    return [entry for entry in entries if not read.intersection(entry.outputs)]


def _names(node: Node) -> list[tuple[str, tuple[str, ...]]]:
    if node.layer.type != "Convolution":
        return [(node.layer.name, node.outputs)]
    return [(_blob(value, node.layer.name), (value,)) for value in node.outputs]


def _blob(value: str, layer: str) -> str:
    """The Caffe name of a value: an earlier version of a blob is called ``blob@layer``."""
    return re.sub(f"@{re.escape(layer)}'*$", "", value)
