"""Forms of padding for consumers that read no Pad, and no pads that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from caffe2torch.consumers._rewriting import attributes_of
from caffe2torch.io.schema import replace_all

if TYPE_CHECKING:
    import onnx


POOLING = ("AveragePool", "MaxPool")


def pad_in_operators(model: onnx.ModelProto) -> None:
    """Pad a convolution of single pixels, and an average, in itself, in place.

    Before, where no other node reads what is between, and the Pad adds zeros around images::

        y = Add(Pad(Conv(x, w)), Reshape(b))    the stride is 1
        y = Pad(Conv(x, w))
        y = Conv(Slice(Pad(x)), w, b)           the Slice takes each stride-th pixel
        y = AveragePool(Pad(x))

    After: ``y = Conv(x, w, b)`` with pads and strides; ``y = AveragePool(x)`` that counts its pads.
    """
    from onnx import helper

    forms, gone = _Forms(model.graph), set[str]()
    nodes: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if gone.intersection(node.output):
            continue
        parts = forms.padded(node)
        if parts is None:
            nodes.append(node)
            continue
        gone.update(name for part in parts.between for name in part.output)
        core = parts.core
        nodes.append(
            helper.make_node(
                core.op_type, parts.inputs, node.output, name=core.name, **parts.attributes
            )
        )
    replace_all(model.graph.node, nodes[::-1])


class _Padded(NamedTuple):
    """An operator with the inputs and attributes that pad it, and the nodes that it stands for."""

    core: onnx.NodeProto
    inputs: Sequence[str]
    attributes: Mapping[str, Any]
    between: Sequence[onnx.NodeProto]


class _Forms:
    """The forms of padding in a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        from onnx import numpy_helper

        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses.update(value.name for value in graph.output)

    def padded(self, node: onnx.NodeProto) -> _Padded | None:
        """The operator that ``node`` ends the padding of; None if there is no such form."""
        if node.op_type == "AveragePool":
            return self._average(node)
        if node.op_type == "Conv":
            return self._strided(node)
        if node.op_type == "Add" and (bias := self._made(node.input[1], "Reshape")):
            pad = self._made(node.input[0], "Pad")
            return None if pad is None else self._point(pad, bias.input[:1], [pad, bias])
        return self._point(node, [], []) if node.op_type == "Pad" else None

    def _average(self, node: onnx.NodeProto) -> _Padded | None:
        pad = self._made(node.input[0], "Pad")
        pads, given = self._zeros(pad), attributes_of(node)
        kernel = given["kernel_shape"]
        if pad is None or pads is None or any(given.get("pads", ())):
            return None
        if any(n >= k for n, k in zip(pads, [*kernel, *kernel], strict=True)):
            return None  # An operator may not be padded by a whole window.
        return _Padded(node, pad.input[:1], {**given, "pads": pads, "count_include_pad": 1}, [pad])

    def _strided(self, node: onnx.NodeProto) -> _Padded | None:
        slicing = self._made(node.input[0], "Slice")
        pad = None if slicing is None else self._made(slicing.input[0], "Pad")
        pads, given = self._zeros(pad), attributes_of(node)
        if slicing is None or pad is None or pads is None or not _is_plain(given):
            return None
        strides = self._steps(slicing)
        if strides is None:
            return None
        inputs = [pad.input[0], *node.input[1:]]
        return _Padded(node, inputs, {**given, "pads": pads, "strides": strides}, [slicing, pad])

    def _point(
        self, pad: onnx.NodeProto, bias: Sequence[str], between: Sequence[onnx.NodeProto]
    ) -> _Padded | None:
        conv, pads = self._made(pad.input[0], "Conv"), self._zeros(pad)
        if conv is None or pads is None or len(conv.input) != 2:
            return None
        given = attributes_of(conv)
        if not _is_plain(given):
            return None
        return _Padded(conv, [*conv.input, *bias], {**given, "pads": pads}, [conv, *between])

    def _made(self, name: str, op_type: str) -> onnx.NodeProto | None:
        """The node of ``op_type`` that makes an array for one reader alone."""
        node = self.makers.get(name)
        fits = node is not None and node.op_type == op_type and self.uses[name] == 1
        return node if fits else None

    def _zeros(self, pad: onnx.NodeProto | None) -> list[int] | None:
        """How many zeros a Pad adds before and after the axes of images; None if it does else."""
        if pad is None or {*attributes_of(pad).values()} - {b"constant"}:
            return None
        ends = self.constants[pad.input[1]].reshape(2, -1)
        fill = self.constants[pad.input[2]] if len(pad.input) > 2 else np.zeros(())
        if fill.any() or ends[:, :2].any() or (ends < 0).any():
            return None
        return [int(n) for n in ends[:, 2:].reshape(-1)]

    def _steps(self, node: onnx.NodeProto) -> list[int] | None:
        """The steps of a Slice of whole images; None if it takes parts of them."""
        starts, ends, axes, steps = (self.constants[name] for name in node.input[1:5])
        whole = not starts.any() and (ends == np.iinfo(np.int64).max).all()
        is_image = [*axes] == [*range(2, 2 + len(axes))]
        return [int(n) for n in steps] if whole and is_image else None


def _is_plain(given: Mapping[str, Any]) -> bool:
    """Whether a convolution is of single pixels, each, without pads."""
    return {*given["kernel_shape"], *given["strides"]} == {1} and not any(given["pads"])


def round_pooling(model: onnx.ModelProto) -> None:
    """Pool with the same pads before and after an axis, in place, where that is as good.

    Pads that differ are those with which rounding down gives Caffe's sizes. They become those
    before the axes; sizes are then rounded up, or down, if either gives the same sizes.
    """
    from onnx import helper

    graph = model.graph
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }
    for node in graph.node:
        given, sizes = attributes_of(node), shapes.get(node.input[0], [])[2:]
        pads = given.get("pads", [])
        first, last = pads[: len(sizes)], pads[len(sizes) :]
        counts = given.get("count_include_pad", 0) or given.get("ceil_mode", 0)
        if node.op_type not in POOLING or not sizes or not all(sizes) or first == last or counts:
            continue
        spans = [n + 2 * f for n, f in zip(sizes, first, strict=True)]
        if any(map(int.__lt__, spans, given["kernel_shape"])):
            continue  # ncnn rounds the negative quotient towards zero.
        expected = _pooled(sizes, first, last, given, up=0)
        for up in (0, 1):
            if _pooled(sizes, first, first, given, up=up) == expected:
                given = {**given, "pads": [*first, *first], "ceil_mode": up}
                replace_all(node.attribute, [helper.make_attribute(*a) for a in given.items()])
                break


def _pooled(
    sizes: Sequence[int],
    first: Sequence[int],
    last: Sequence[int],
    given: Mapping[str, Any],
    *,
    up: int,
) -> list[int]:
    """The sizes of what is pooled; ``up``: 1 if they are rounded up."""
    windows = zip(given["kernel_shape"], given["strides"], strict=True)
    spans = (n + f + e for n, f, e in zip(sizes, first, last, strict=True))
    return [
        (span - kernel + up * (stride - 1)) // stride + 1
        for span, (kernel, stride) in zip(spans, windows, strict=True)
    ]
