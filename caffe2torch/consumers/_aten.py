"""What ONNX operators compute, in the operators of torch that converters of torch modules read.

They know fewer operators than torch has, and some of them wrongly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from caffe2torch.consumers import Doubt

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array

Tensor = torch.Tensor
LOWEST = float(np.finfo(np.float32).min)
"""What pads a maximum: converters know no -inf."""
CONV: Sequence[Callable[..., Tensor]] = (F.conv1d, F.conv2d, F.conv3d)
CONV_TRANSPOSE: Sequence[Callable[..., Tensor]] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)
MAX_POOL: Sequence[Callable[..., Tensor]] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVERAGE_POOL: Sequence[Callable[..., Tensor]] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}
"""torch's types by ONNX's numbers."""


class NoFormError(Exception):
    """A node that has no form in torch's operators."""

    def __init__(self, doubt: Doubt) -> None:
        super().__init__(doubt.why)
        self.doubt = doubt


@dataclass(frozen=True)
class Call:
    """One node; ``constants`` are those of its inputs that are, None for the others."""

    node: onnx.NodeProto
    attributes: dict[str, Any]
    constants: Sequence[Array | None]

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute ``name``."""
        return self.attributes.get(name, default)

    def ints(self, index: int) -> list[int] | None:
        """The integers that input ``index`` must be a constant of; None if it is left out."""
        if index >= len(self.node.input) or not self.node.input[index]:
            return None
        array = self.constants[index]
        if array is None:
            raise NoFormError(Doubt(self.node, "a size that it is given depends on the data"))
        return [int(n) for n in np.asarray(array).reshape(-1)]


def _padded(call: Call, x: Tensor, value: float) -> tuple[Tensor, list[int]]:
    """``x``, and the pads that are left for the operator: those that are alike on both sides."""
    axes = len(call.get("kernel_shape"))
    pads = list(call.get("pads", [0] * 2 * axes))
    if pads[:axes] == pads[axes:]:
        return x, pads[:axes]
    return F.pad(x, _both_ends(pads), value=value), [0] * axes


def _conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, pads = _padded(call, x, 0.0)
    run = CONV[len(pads) - 1]
    return run(
        x,
        weight,
        bias,
        call.get("strides", 1),
        pads,
        call.get("dilations", 1),
        call.get("group", 1),
    )


def _conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = call.get("kernel_shape")
    axes = len(kernel)
    steps, dilations = call.get("strides", [1] * axes), call.get("dilations", [1] * axes)
    pads, group = list(call.get("pads", [0] * 2 * axes)), call.get("group", 1)
    plain = len({*steps}) == len({*dilations, 1}) == 1 and pads[:axes] == pads[axes:]
    if plain and group == 1:
        run = CONV_TRANSPOSE[axes - 1]
        return run(x, weight, bias, steps, pads[:axes])
    # A convolution of the pixels with zeros between them: what LiteRT does not read otherwise.
    for axis, step in enumerate(steps):
        x = _spread(x, 2 + axis, step)
    reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    ends = [(r - pads[i], r - pads[axes + i]) for i, r in enumerate(reach)]
    x = F.pad(x, [n for end in reversed(ends) for n in end])
    parts = weight.reshape(group, -1, *weight.shape[1:]).transpose(1, 2)
    flipped = parts.flatten(0, 1).flip(list(range(2, 2 + axes)))
    run = CONV[axes - 1]
    return run(x, flipped, bias, 1, 0, dilations, group)


def _spread(x: Tensor, axis: int, step: int) -> Tensor:
    """``x`` with ``step`` - 1 zeros between its values along ``axis``."""
    if step == 1:
        return x
    size = x.shape[axis]
    pairs = torch.cat(
        [x.unsqueeze(axis + 1)] + [torch.zeros_like(x).unsqueeze(axis + 1)] * (step - 1), axis + 1
    )
    return pairs.flatten(axis, axis + 1).narrow(axis, 0, (size - 1) * step + 1)


def _max_pool(call: Call, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    kernel, axes = call.get("kernel_shape"), len(call.get("kernel_shape"))
    pads, steps = list(call.get("pads", [0] * 2 * axes)), call.get("strides", [1] * axes)
    padded = F.pad(x, _both_ends(pads), value=LOWEST) if any(pads) else x
    if len(call.node.output) > 1:
        return _max_and_index(padded, x, kernel, steps, pads)
    run = MAX_POOL[axes - 1]
    return run(padded, kernel, steps, 0, call.get("dilations", 1))


def _max_and_index(
    padded: Tensor, x: Tensor, kernel: Sequence[int], steps: Sequence[int], pads: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Maxima over two axes of ``padded``, and where they are in ``x``, counted over all of it.

    Each window is gathered as a row, as converters know no indices of maxima.
    """
    (height, width), (h, w) = padded.shape[2:], x.shape[2:]
    starts = [
        range(0, n - k + 1, s) for n, k, s in zip((height, width), kernel, steps, strict=True)
    ]
    rows, columns = np.meshgrid(*starts, indexing="ij")
    down, right = np.meshgrid(*(range(k) for k in kernel), indexing="ij")
    rows = rows.reshape(-1, 1) + down.reshape(1, -1)
    columns = columns.reshape(-1, 1) + right.reshape(1, -1)
    windows = torch.from_numpy(rows * width + columns)
    places = torch.from_numpy((rows - pads[0]) * w + columns - pads[1])
    sizes = (*x.shape[:2], *(len(s) for s in starts))
    values = padded.flatten(2).index_select(2, windows.flatten()).reshape(-1, *windows.shape)
    first = torch.argmax(values, 2)
    row = torch.arange(windows.shape[0]) * windows.shape[1]
    index = places.flatten().index_select(0, (first + row).flatten()).reshape(sizes)
    offset = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1, 1) * (h * w)
    return values.amax(2).reshape(sizes), index + offset


def _both_ends(pads: Sequence[int]) -> list[int]:
    """ONNX's pads, all of the starts and then all of the ends, in torch's order."""
    axes = len(pads) // 2
    return [n for axis in reversed(range(axes)) for n in (pads[axis], pads[axes + axis])]


def _average_pool(call: Call, x: Tensor) -> Tensor:
    kernel, axes = call.get("kernel_shape"), len(call.get("kernel_shape"))
    steps = call.get("strides", [1] * axes)
    run = AVERAGE_POOL[axes - 1]
    if not any(call.get("pads", ())):
        return run(x, kernel, steps)
    both = _both_ends(call.get("pads"))
    ones = F.pad(torch.ones_like(x[:1, :1]), both)  # The padding does not count.
    return run(F.pad(x, both), kernel, steps) / run(ones, kernel, steps)


def _lrn(call: Call, x: Tensor) -> Tensor:
    size = call.get("size")
    before = (size - 1) // 2
    rest = [0, 0] * (x.ndim - 2)
    squares = F.pad(x * x, [*rest, before, size - 1 - before])
    total = reduce(torch.add, (squares.narrow(1, i, x.shape[1]) for i in range(size)))
    scale = call.get("bias", 1.0) + call.get("alpha") / size * total
    return x / torch.pow(scale, call.get("beta"))


def _batch_norm(call: Call, x: Tensor, *arrays: Tensor) -> Tensor:
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale, shift, mean, variance = (array.reshape(shape) for array in arrays)
    return (x - mean) * (scale / torch.sqrt(variance + call.get("epsilon"))) + shift


def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    product = torch.matmul(a, b.t() if call.get("transB") else b)
    return product if c is None else product + c


def _reshape(call: Call, x: Tensor, _: Tensor) -> Tensor:
    sizes = call.ints(1) or []
    return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(sizes)])


def _flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    rows = int(np.prod(x.shape[:axis]))
    return x.reshape(rows, x.numel() // rows if rows else 0)


def _gather(call: Call, x: Tensor, index: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.ndim
    found = torch.index_select(x, axis, index.reshape(-1))
    return found.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _slice(call: Call, x: Tensor, *_: Any) -> Tensor:
    starts, ends = call.ints(1) or [], call.ints(2) or []
    axes, steps = call.ints(3) or range(len(starts)), call.ints(4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 0:
            chosen = range(x.shape[axis])[slice(start, end if end > -(2**31) else None, step)]
            x = torch.index_select(x, axis, torch.tensor(list(chosen)))
        else:
            index = [slice(None)] * x.ndim
            index[axis] = slice(start, end, step)
            x = x[tuple(index)]
    return x


def _pad(call: Call, x: Tensor, _: Tensor, value: Tensor | None = None, *more: Any) -> Tensor:
    both = _both_ends(call.ints(1) or [])
    fill = call.constants[2] if value is not None else 0.0
    assert fill is not None
    while both and both[-2:] == [0, 0]:  # Converters read pads of few axes.
        both = both[:-2]
    return F.pad(x, both, value=float(fill))


def _split(call: Call, x: Tensor, _: Tensor | None = None) -> tuple[Tensor, ...]:
    axis, count = call.get("axis", 0), len(call.node.output)
    sizes = call.ints(1) or [x.shape[axis] // count] * count
    return tuple(torch.split(x, sizes, axis))


def _clip(call: Call, x: Tensor, *_: Any) -> Tensor:
    low, high = ([*call.constants[1:], None, None])[:2]
    if low is not None:
        x = torch.clamp_min(x, float(low))
    return x if high is None else torch.clamp_max(x, float(high))


def _axes(call: Call, x: Tensor) -> list[int]:
    return list(call.ints(1) or call.get("axes") or range(x.ndim))


def _reduce(run: Callable[..., Tensor], call: Call, x: Tensor, *_: Any) -> Tensor:
    axes, keep = _axes(call, x), bool(call.get("keepdims", 1))
    return run(x, axes, keep) if axes else x


def _reduce_prod(call: Call, x: Tensor) -> Tensor:
    for axis in sorted((a % x.ndim for a in _axes(call, x)), reverse=True):
        # By multiplication: coremltools does not read torch.prod of an exported module.
        x = reduce(torch.mul, torch.split(x, 1, axis))
        x = x if call.get("keepdims", 1) else x.squeeze(axis)
    return x


def _top_k(call: Call, x: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    (count,) = call.ints(1) or [1]
    return tuple(torch.topk(x, count, call.get("axis", -1), bool(call.get("largest", 1)), True))


def _unsqueeze(call: Call, x: Tensor, _: Tensor) -> Tensor:
    axes = call.ints(1) or []
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _squeeze(call: Call, x: Tensor, _: Tensor | None = None) -> Tensor:
    axes = call.ints(1)
    gone = {a % x.ndim for a in axes} if axes else {i for i, n in enumerate(x.shape) if n == 1}
    return x.reshape([n for i, n in enumerate(x.shape) if i not in gone])


def _scatter_nd(call: Call, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    return x.index_put(tuple(index.unbind(-1)), updates)


def _plain(run: Callable[..., Any]) -> Callable[..., Tensor]:
    return lambda call, *inputs: run(*inputs)


PLAIN: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Div": torch.div,
    "Equal": torch.eq,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "GlobalAveragePool": lambda x: x.mean(list(range(2, x.ndim)), True),
    "GlobalMaxPool": lambda x: x.amax(list(range(2, x.ndim)), True),
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Identity": torch.clone,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": lambda *inputs: reduce(torch.maximum, inputs),
    "Min": lambda *inputs: reduce(torch.minimum, inputs),
    "Mod": torch.remainder,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "PRelu": lambda x, slope: torch.relu(x) - slope * torch.relu(-x),
    "Pow": torch.pow,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": lambda x: torch.relu(x) + torch.log1p(torch.exp(-torch.abs(x))),
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Where": torch.where,
}
"""Those that are given the inputs alone."""

OPERATORS: dict[str, Callable[..., Any]] = {
    **{name: _plain(run) for name, run in PLAIN.items()},
    "ArgMax": lambda call, x: torch.argmax(x, call.get("axis", 0), bool(call.get("keepdims", 1))),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda call, x: x.to(TYPES[call.get("to")]),
    "Clip": _clip,
    "Concat": lambda call, *inputs: torch.cat(inputs, call.get("axis")),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Elu": lambda call, x: F.elu(x, call.get("alpha", 1.0)),
    "Expand": lambda call, x, _: x.expand(np.broadcast_shapes(x.shape, call.ints(1))),
    "Flatten": _flatten,
    "Gather": _gather,
    "GatherElements": lambda call, x, index: torch.gather(x, call.get("axis", 0), index),
    "Gemm": _gemm,
    "LRN": _lrn,
    "LeakyRelu": lambda call, x: F.leaky_relu(x, call.get("alpha", 0.01)),
    "MaxPool": _max_pool,
    "Pad": _pad,
    "ReduceMax": partial(_reduce, torch.amax),
    "ReduceMean": partial(_reduce, torch.mean),
    "ReduceMin": partial(_reduce, torch.amin),
    "ReduceProd": _reduce_prod,
    "ReduceSum": partial(_reduce, torch.sum),
    "ReduceSumSquare": lambda call, x, *more: _reduce(torch.sum, call, x * x, *more),
    "Reshape": _reshape,
    "ScatterElements": lambda call, x, index, updates: torch.scatter(
        x, call.get("axis", 0), index, updates
    ),
    "ScatterND": _scatter_nd,
    "Slice": _slice,
    "Softmax": lambda call, x: torch.softmax(x, call.get("axis", -1)),
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": lambda call, x, _: x.tile(call.ints(1)),
    "TopK": _top_k,
    "Transpose": lambda call, x: x.permute(call.get("perm", list(range(x.ndim))[::-1])),
    "Unsqueeze": _unsqueeze,
}
"""What each operator computes, of its node and its inputs."""
