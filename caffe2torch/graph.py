"""The normalised net between reading and lowering: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from caffe2torch.io.prototxt import write_prototxt
from caffe2torch.io.schema import Message, enum_name, message_class
from caffe2torch.preprocessing import Preprocessing

if TYPE_CHECKING:
    from caffe2torch.io.checksum import Checksum
    from caffe2torch.io.origin import Origin
    from caffe2torch.layers._base import Layer

Shape = tuple[int, ...]
Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class InputBlob:
    """A blob that the caller feeds: its Caffe name and declared shape."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Node:
    """One layer applied to values. ``params`` maps the layer's own names to graph keys.

    ``proto`` is the LayerParameter that ``layer`` was resolved from, without learned blobs; its
    bottoms and tops are Caffe's blobs. It may be shared: copy it to change it. ``key`` is the
    dotted path of the layer's module (``fire2.squeeze1x1``). Two nodes that share a learned
    blob hold the same graph key for it.
    """

    layer: Layer
    proto: Message
    key: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, str] = field(default_factory=dict)

    def is_in_place(self, position: int) -> bool:
        """Whether the layer writes the top at ``position`` over the bottom there."""
        own = self.proto.bottom[position : position + 1]
        return bool(own) and bool(own == self.proto.top[position : position + 1])

    @property
    def cut(self) -> tuple[int, ...]:
        """The positions of inputs that get no gradient (``propagate_down: false``)."""
        flags = self.proto.propagate_down[: len(self.inputs)]
        return tuple(position for position, flag in enumerate(flags) if not flag)


@dataclass(frozen=True)
class Graph:
    """A net in single-assignment form: every value is written once, by one node.

    ``sources`` are the Input layers, whose tops the caller feeds. ``blobs`` maps each Caffe
    blob name to the value that holds it after the whole net has run; a blob whose memory is
    changed through another one (Reshape, Flatten, Split share it) has none. The value carries the
    blob's own name unless an input of that name is changed in place; earlier versions of a
    blob are values named ``blob@layer``. ``outputs`` are blob names, in the order in which
    Caffe reports them. ``origin`` is the prototxt that the net was read from, for errors.
    """

    name: str
    phase: str
    sources: tuple[Message, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    blobs: Mapping[str, str]
    shapes: Mapping[str, Shape]
    params: Mapping[str, FloatArray]
    preprocessing: Preprocessing | None = None
    source_sha256: Checksum | None = None
    warnings: tuple[str, ...] = ()
    origin: Origin | None = field(default=None, compare=False)

    @cached_property
    def inputs(self) -> tuple[InputBlob, ...]:
        """The blobs that the caller feeds, in order."""
        return tuple(
            InputBlob(top, self.shapes[top]) for proto in self.sources for top in proto.top
        )

    @cached_property
    def index_inputs(self) -> frozenset[str]:
        """The inputs that some layer reads as indices, of a table or of images."""
        read = {
            node.inputs[position]
            for node in self.nodes
            for position in node.layer.index_bottoms
            if position < len(node.inputs)
        }
        return frozenset(read & {i.name for i in self.inputs})

    @cached_property
    def own_phases(self) -> dict[str, str]:
        """The phase of each layer whose own is not the net's, by key.

        Caffe gives the net's phase only to layers that state none: ``phase: TEST`` freezes a
        BatchNorm or a Dropout in a net that trains.
        """
        phases = {node.key: enum_name(node.proto, "phase") for node in self.nodes}
        return {key: phase for key, phase in phases.items() if phase != self.phase}

    def arrays(self, node: Node) -> dict[str, FloatArray]:
        """The learned arrays of ``node`` by the layer's own names."""
        return {name: self.params[key] for name, key in node.params.items()}

    @property
    def definition(self) -> str:
        """The net as a V2 prototxt without weights: enough to build it again."""
        return write_prototxt(self.net)

    @property
    def net(self) -> Message:
        """The definition as a NetParameter of its own, to be changed at will."""
        layers = [*self.sources, *(node.proto for node in self.nodes)]
        return message_class("NetParameter")(name=self.name, layer=layers)
