"""Tell by structure whether a converted Caffe net is a SqueezeNet, and which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from caffe2torch.graph import Graph, Node
from caffe2torch.layers._base import Layer
from caffe2torch.layers._pooling import PoolWindow
from caffe2torch.layers._spatial import Window
from caffe2torch.layers.concat import Concat
from caffe2torch.layers.convolution import Convolution
from caffe2torch.layers.dropout import Dropout
from caffe2torch.layers.eltwise import Eltwise
from caffe2torch.layers.pooling import Pooling
from caffe2torch.layers.relu import ReLU
from caffe2torch.layers.softmax import Softmax
from squeezenet.architecture import (
    ARCHITECTURES,
    BYPASSES,
    EXPANSION,
    FIRST_FIRE,
    Architecture,
    bypass_kind,
)

MAX_POOL = PoolWindow(kernel=(3, 3), stride=(2, 2), pad=(0, 0), ceil=True)

LayerType = TypeVar("LayerType", bound=Layer)


@dataclass(frozen=True)
class SqueezeNetSpec:
    """Which SqueezeNet a graph is. ``params`` maps the graph's keys to state_dict keys.

    ``dropout`` is 0 for a net without a Dropout layer. ``softmax`` says that the graph goes
    on to probabilities; the module returns what comes before.
    """

    version: str
    bypass: str | None
    num_classes: int
    dropout: float
    softmax: bool
    params: Mapping[str, str]

    @property
    def architecture(self) -> dict[str, Any]:
        """The record that an artefact carries, as ``SqueezeNet.architecture``."""
        return {
            "name": "squeezenet",
            "version": self.version,
            "bypass": self.bypass,
            "num_classes": self.num_classes,
        }


def recognise(graph: Graph) -> SqueezeNetSpec | None:
    """The SqueezeNet that computes exactly what ``graph`` does; None if there is none.

    Layer types, their parameters and their connections decide, names do not. Every layer
    of the graph must have its place, and the logits or their softmax be the only output.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    for version, architecture in ARCHITECTURES.items():
        for bypass in BYPASSES:
            try:
                return _Match(graph).spec(version, architecture, bypass)
            except _MismatchError:
                continue
    return None


class _MismatchError(Exception):
    """The graph is not the SqueezeNet that it is compared with."""


@dataclass
class _Match:
    """One comparison: follows the graph from its input and claims each node it expects."""

    graph: Graph
    claimed: set[int] = field(default_factory=set)
    params: dict[str, str] = field(default_factory=dict)

    def spec(self, version: str, architecture: Architecture, bypass: str | None) -> SqueezeNetSpec:
        """Compare the whole graph. Raises _MismatchError at the first difference."""
        x = self.graph.inputs[0].name
        if self._channels(x) != 3:
            raise _MismatchError
        size = architecture.conv1_kernel
        x = self._relu(self._conv("conv1", x, architecture.conv1_channels, size, stride=2))
        x = self._max_pool(x)
        for number, squeeze in enumerate(architecture.squeeze, FIRST_FIRE):
            x = self._fire(f"fire{number}", x, squeeze, bypass_kind(number, bypass))
            if number in architecture.pools:
                x = self._max_pool(x)
        x, dropout = self._dropout(x)
        x = self._relu(self._conv("conv10", x, None, 1, pad=architecture.conv10_pad))
        logits = self._take(Pooling, x, test=_is_global_average)
        x, softmax = self._softmax(logits)
        if len(self.claimed) != len(self.graph.nodes):
            raise _MismatchError
        if self.graph.blobs[self.graph.outputs[0]] != x:
            raise _MismatchError
        num_classes = self._channels(logits)
        return SqueezeNetSpec(version, bypass, num_classes, dropout, softmax, self.params)

    def _fire(self, name: str, x: str, squeeze: int, bypass: str | None) -> str:
        expand = EXPANSION * squeeze
        squeezed = self._relu(self._conv(f"{name}.squeeze1x1", x, squeeze, 1))
        small = self._relu(self._conv(f"{name}.expand1x1", squeezed, expand, 1))
        large = self._relu(self._conv(f"{name}.expand3x3", squeezed, expand, 3, pad=1))
        out = self._take(Concat, small, large, test=lambda c: c.axis in (1, -3))
        if bypass == "convolution":
            x = self._conv(f"{name}.bypass_conv", x, 2 * expand, 1)
        return self._sum(out, x) if bypass else out

    def _conv(
        self, name: str, x: str, channels: int | None, size: int, stride: int = 1, pad: int = 0
    ) -> str:
        wanted = Window((size,) * 2, (stride,) * 2, (pad,) * 2, (1, 1))

        def test(layer: Convolution) -> bool:
            return (
                layer.resolved(self.graph.shapes[x]) == (1, wanted)
                and channels in (layer.num_output, None)
                and layer.group == 1
                and layer.bias_term
            )

        node = self._claim(Convolution, (x,), test)
        if node is None:
            raise _MismatchError
        for own, key in node.params.items():
            if key in self.params:
                raise _MismatchError
            self.params[key] = f"{name}.{own}"
        return node.outputs[0]

    def _relu(self, x: str) -> str:
        return self._take(ReLU, x, test=lambda layer: layer.negative_slope == 0)

    def _max_pool(self, x: str) -> str:
        return self._take(
            Pooling, x, test=lambda p: (p.method, p.window, p.num_tops) == ("MAX", MAX_POOL, 1)
        )

    def _sum(self, a: str, b: str) -> str:
        def test(layer: Eltwise) -> bool:
            return layer.operation == "SUM" and layer.coeff == (1, 1)

        node = self._claim(Eltwise, (a, b), test) or self._claim(Eltwise, (b, a), test)
        if node is None:
            raise _MismatchError
        return node.outputs[0]

    def _dropout(self, x: str) -> tuple[str, float]:
        node = self._claim(Dropout, (x,), lambda _: True)
        if node is None:
            return x, 0.0
        assert isinstance(node.layer, Dropout)
        return node.outputs[0], node.layer.dropout_ratio

    def _softmax(self, x: str) -> tuple[str, bool]:
        node = self._claim(Softmax, (x,), lambda layer: layer.axis in (1, -3))
        return (node.outputs[0], True) if node else (x, False)

    def _take(self, kind: type[LayerType], *inputs: str, test: Callable[[LayerType], bool]) -> str:
        node = self._claim(kind, inputs, test)
        if node is None:
            raise _MismatchError
        return node.outputs[0]

    def _claim(
        self, kind: type[LayerType], inputs: tuple[str, ...], test: Callable[[LayerType], bool]
    ) -> Node | None:
        """The first node not yet claimed of exactly this type that reads ``inputs``."""
        for index, node in enumerate(self.graph.nodes):
            if index not in self.claimed and type(node.layer) is kind and node.inputs == inputs:
                assert isinstance(node.layer, kind)
                if test(node.layer):
                    self.claimed.add(index)
                    return node
        return None

    def _channels(self, value: str) -> int:
        shape = self.graph.shapes[value]
        if len(shape) != 4:
            raise _MismatchError
        return shape[1]


def _is_global_average(layer: Pooling) -> bool:
    return layer.method == "AVE" and layer.window is None
