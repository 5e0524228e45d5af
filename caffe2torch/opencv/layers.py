"""The layers of a graph as OpenCV's Caffe reader lists them, and what ``Net.getLayer`` gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caffe2torch.graph import Graph, Node
from caffe2torch.opencv.errors import OpenCVError

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray
    from caffe2torch.opencv.net import Net

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


@dataclass(eq=False, repr=False)
class Layer:
    """A layer of a net, with the attributes of ``cv2.dnn.Layer`` that programs use.

    ``_inputs`` are the net's inputs where the layer stands for them.
    """

    name: str
    type: str
    _inputs: Sequence[str] = ()
    _net: Net | None = None
    _entry: Entry | None = None
    preferableTarget: int = 0  # noqa: N815  # OpenCV's name

    @property
    def blobs(self) -> tuple[FloatArray, ...]:
        """The learned blobs in Caffe's shapes; setting them changes the net."""
        if self._net is None or self._entry is None:
            return ()
        return tuple(self._net.learned_blobs(self._entry))

    @blobs.setter
    def blobs(self, blobs: Sequence[Any]) -> None:
        if self._net is None or self._entry is None:
            raise OpenCVError("the input layer has no learned blobs.")
        self._net.replace_blobs(self._entry, blobs)

    def outputNameToIndex(self, outputName: str) -> int:
        """The index of an input of the net in layer 0 (-1: it has none); else 0."""
        if self._net is not None:
            return 0
        return self._inputs.index(outputName) if outputName in self._inputs else -1


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
