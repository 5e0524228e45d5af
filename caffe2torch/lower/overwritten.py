"""Caffe's gradients where its backward pass finds memory that has been overwritten since."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from caffe2torch.graph import Graph, Node
from caffe2torch.layers import Backward, GradientSharing, Layer, TorchBuilder
from caffe2torch.layers._runtime.arrays import is_tracing

Function = Callable[..., Any]
Lost = Mapping[int, tuple[int, ...]]
"""Positions of inputs at which gradients are lost, by the places of nodes."""


class _Written(NamedTuple):
    """A layer that overwrites memory in place, its place in the net, and what it leaves."""

    place: int
    layer: Layer
    value: str


@dataclass(frozen=True)
class Reread:
    """A layer whose backward pass in Caffe is not that of what its forward pass has read.

    ``bottoms`` and ``tops`` name the values that their memory holds at the end of the forward
    pass; ``lost`` are the positions of bottoms whose gradient is lost then (``lost_gradients``).
    """

    layer: Layer
    in_place: bool
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    lost: tuple[int, ...]


def rereads(graph: Graph, lost: Lost) -> dict[int, Reread]:
    """The nodes of ``graph`` whose gradients are not the formula's, by their places.

    ``lost`` are those of ``lost_gradients``.

    Caffe's layers read data in their backward pass from memory that in-place layers may have
    changed. Of ::

        layer { name: "t" type: "TanH" bottom: "x" top: "y" }
        layer { name: "d" type: "Dropout" bottom: "y" top: "y" }

    TanH's gradient, 1 - y^2, is that of the y that Dropout has written.
    """
    made: dict[str, int] = {}
    first: dict[str, str] = {}
    """By value, the one that stood first in its memory."""
    written: dict[str, list[_Written]] = {}
    for index, node in enumerate(graph.nodes):
        for position, value in enumerate(node.outputs):
            made[value] = index
            in_place = node.is_in_place(position)
            if node.inputs and (in_place or node.layer.shares_memory):
                source = node.inputs[position if in_place else 0]
                first[value] = first.get(source, source)
            if in_place and not node.layer.shares_memory:
                here = written.setdefault(first[value], [])
                here.append(_Written(index, node.layer, value))

    def later(value: str) -> list[_Written]:
        all_ = written.get(first.get(value, value), ())
        return [one for one in all_ if one.place > made.get(value, -1)]

    def is_read_anew(node: Node) -> bool:
        if node.layer.shares_memory:
            return False
        reads = node.layer.backward_reads(node.is_in_place(0))
        read = (*node.inputs[reads.bottoms], *node.outputs[reads.tops])
        return any(
            not (reads.signs and one.layer.keeps_signs) for value in read for one in later(value)
        )

    def present(value: str) -> str:
        return later(value)[-1].value if later(value) else value

    found: dict[int, Reread] = {}
    for index, node in enumerate(graph.nodes):
        in_place = node.is_in_place(0)
        if is_read_anew(node) or node.layer.backward_reads(in_place).always:
            bottoms, tops = (tuple(map(present, of)) for of in (node.inputs, node.outputs))
            found[index] = Reread(node.layer, in_place, bottoms, tops, lost.get(index, ()))
    return found


def lost_gradients(graph: Graph) -> Lost:
    """The inputs of nodes at which Caffe loses the gradient.

    A Reshape, a Concat or Slice of one, and a Parameter give their top the memory of the gradient
    before them in the forward pass. A Flatten that reads the top, after layers in place if there
    are any, gives it other memory in the backward pass, so that the gradient before stays 0. A
    Split between the two, which Caffe puts in where a blob has several readers, adds it up.
    """
    readers: dict[str, list[tuple[int, int]]] = {}
    for index, node in enumerate(graph.nodes):
        for position, value in enumerate(node.inputs):
            readers.setdefault(value, []).append((index, position))

    def is_flattened(value: str, weight: float) -> bool:
        found = readers.get(value, [])
        if len(found) != 1 or weight:
            return False
        ((index, position),) = found
        node = graph.nodes[index]
        if node.layer.shares_memory:
            return node.layer.gradient_sharing is GradientSharing.BACKWARD
        weights = [*node.proto.loss_weight, *[0.0] * len(node.outputs)]
        return node.is_in_place(position) and is_flattened(
            node.outputs[position], weights[position]
        )

    lost: dict[int, tuple[int, ...]] = {}
    for node in graph.nodes:
        forward = node.layer.gradient_sharing is GradientSharing.FORWARD
        shares = node.layer.shares_memory and forward
        if (shares or node.layer.type == "Parameter") and is_flattened(
            node.outputs[0], sum(node.proto.loss_weight)
        ):
            index, position = readers[node.outputs[0]][0]
            lost[index] = (position,)
    return lost


def call(
    reread: Reread,
    function: Function,
    t: TorchBuilder,
    bottoms: Sequence[Tensor],
    memory: Mapping[str, Tensor],
) -> Any:
    """``function(*bottoms)``, the layer, with Caffe's gradient.

    ``memory`` gets the values that ``reread`` names, as the pass goes on, without a history.
    What is traced has the gradient of the formula.
    """
    parameters = tuple(t.params.parameters())
    tensors = (*bottoms, *parameters)
    if (
        not torch.is_grad_enabled()
        or is_tracing()
        or not all(isinstance(one, Tensor) for one in tensors)  # torch.fx
        or not any(one.requires_grad for one in tensors)
    ):
        return function(*bottoms)
    return _Call.apply(reread, function, t, memory, len(bottoms), *tensors)  # type: ignore[no-untyped-call]


class _Call(torch.autograd.Function):
    """A layer whose gradient is computed from what the memory holds when that is asked for."""

    @staticmethod
    def forward(
        ctx: Any,
        reread: Reread,
        function: Function,
        t: TorchBuilder,
        memory: Mapping[str, Tensor],
        count: int,
        *tensors: Tensor,
    ) -> Any:
        """The tops."""
        ctx.reread, ctx.function, ctx.t, ctx.memory, ctx.count = reread, function, t, memory, count
        ctx.save_for_backward(*tensors[:count])
        result = function(*tensors[:count])
        return tuple(result) if isinstance(result, list) else result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the bottoms and of the learned arrays."""
        given, reread = ctx.saved_tensors, ctx.reread
        parameters = tuple(ctx.t.params.parameters())
        given, diffs = tuple(map(in_full, given)), tuple(map(in_full, diffs))
        present = [
            in_full(ctx.memory.get(name, own)).reshape(own.shape)
            for name, own in zip(reread.bottoms, given, strict=True)
        ]
        tops = [
            in_full(ctx.memory[name]).reshape(diff.shape)
            for name, diff in zip(reread.tops, diffs, strict=True)
        ]
        wanted = ctx.needs_input_grad[5:]
        found = Backward(diffs, present, tops, given, wanted[: ctx.count], reread.in_place)
        learns = wanted[ctx.count :]
        made = gradients(reread.layer, ctx.function, ctx.t, found, parameters, learns)
        for position in reread.lost:
            made[position] = None
        return (*[None] * 5, *made)


def in_full(x: Tensor) -> Tensor:
    """``x`` in float32, if it is of a lower precision, as automatic casts leave it."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def gradients(
    layer: Layer,
    function: Function,
    t: TorchBuilder,
    found: Backward,
    parameters: Sequence[Tensor],
    learns: Sequence[bool],
) -> list[Tensor | None]:
    """Caffe's gradients of a layer's bottoms and learned arrays, None where not wanted.

    Args:
        layer: the layer.
        function: the layer as a function of its bottoms.
        t: for the layer's own form of its gradient.
        found: what the backward pass finds.
        parameters: the learned arrays.
        learns: for each of them, whether its gradient is asked for.

    Raises UnsupportedLayerError for a layer whose gradient is not known then.
    """
    if type(layer).gradient is not Layer.gradient:
        own = layer.gradient(t, found)
        return [*own, *[None] * (len(found.bottoms) + len(parameters) - len(own))]
    reads = layer.backward_reads(found.in_place)
    indices = [i for i in layer.index_bottoms if i < len(found.given)]
    indices_changed = any(not torch.equal(found.bottoms[i], found.given[i]) for i in indices)
    if range(len(found.tops))[reads.tops] or layer.remembers or indices_changed:
        layer.gradient(t, found)  # Refuses it.
    read = range(len(found.bottoms))[reads.bottoms]
    with torch.enable_grad():
        leaves = [
            (found.bottoms if i in read else found.given)[i].detach().requires_grad_(wanted)
            for i, wanted in enumerate(found.wanted)
        ]
        result = function(*leaves)
    tops = list(result) if isinstance(result, tuple | list) else [result]
    pairs = [
        (top, diff.to(top.dtype))  # Autocast has another type in the forward pass.
        for top, diff in zip(tops, found.diffs, strict=True)
        if top.requires_grad
    ]
    into = [*leaves, *parameters]
    flags = [*found.wanted, *learns]
    made = iter(
        torch.autograd.grad(
            [top for top, _ in pairs],
            [one for one, wanted in zip(into, flags, strict=True) if wanted],
            [diff for _, diff in pairs],
            allow_unused=True,
        )
    )
    return [next(made) if wanted else None for wanted in flags]
