"""An engine's blobs against the torch module in float64, fed what the engine itself computed.

Where random or extreme weights amplify rounding from layer to layer, two right engines end far
apart. What an engine's kernel is answerable for is the step from the blobs below it to its own:
so the layers of that step run in float64 on the engine's own blobs, and the engine may be as far
from the result as rounding explains. A wrong kernel, weight or wiring fails there, however
ill-conditioned the net; by induction an engine that passes everywhere computes the net.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe2torch.compare import BlobDifference, in_float32_range, is_detections
from caffe2torch.engines import FLOAT32
from caffe2torch.errors import Caffe2TorchError
from caffe2torch.graph import Array, FloatArray, Graph, Node
from caffe2torch.lower.batch import fed_shapes
from caffe2torch.parity.reproducer import subgraph

if TYPE_CHECKING:
    from caffe2torch.engines import Blobs

NUDGE = {FLOAT32: 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""How far the numbers of a nudged run are moved at most, relatively, by what the engine computes
in: one unit in the last place. Whole numbers stay: they are exact, and may be indices."""
NUDGED_RUNS = 3
SEED = 0
ROUNDING = 16.0
"""An engine may be as many times as far from float64 as the furthest nudged run is: a kernel
rounds at each of its steps (sums, exponents, quotients), a nudged run its operands alone."""


@dataclass(frozen=True)
class Step:
    """How far an engine is from float64 at a blob, given its own blobs below; what it may be.

    ``nodes`` are the layers between, which read the values ``reads``. ``error`` is infinite
    where another number of values came. ``by_torch`` says that torch makes the same of them in
    float32.
    """

    nodes: tuple[Node, ...]
    reads: tuple[str, ...]
    error: float
    limit: float
    by_torch: bool = False

    @property
    def explained(self) -> bool:
        """Whether rounding explains the error."""
        return self.error <= self.limit


class Float64:
    """Judges the blobs that engines computed of ``inputs``."""

    def __init__(self, graph: Graph, inputs: Mapping[str, FloatArray]) -> None:
        self.graph, self.inputs = graph, inputs
        self.shapes = fed_shapes(graph, inputs)
        self.producer = {value: node for node in graph.nodes for value in node.outputs}

    def step(self, blob: str, blobs: Blobs, is_torch: bool, precision: str = FLOAT32) -> Step:
        """How an engine that shows ``blobs``, and computes in ``precision``, fares at ``blob``.

        Of torch itself (``is_torch``) only float64 is the judge; of others it is enough that the
        torch module agrees on the same numbers.
        """
        value = self.graph.blobs[blob]
        shown = {
            self.graph.blobs[name]: array
            for name, array in {**blobs, **self.inputs}.items()
            if name in self.graph.blobs
        }
        nodes, reads = back_to(set(shown), self.producer, value)
        ordered = tuple(n for n in self.graph.nodes if any(n is found for found in nodes))
        inputs = {name: self._as_declared(name, shown[name]) for name in reads}
        try:
            block = _Block(subgraph(self.graph, ordered, inputs), inputs, value)
        except Caffe2TorchError:  # Its own blobs have shapes that the layers do not take.
            return Step(ordered, reads, inf, 0.0)
        nudge = NUDGE[precision]
        return Step(ordered, reads, *_judged(block, ordered, shown[value], is_torch, nudge))

    def _as_declared(self, value: str, array: Array) -> FloatArray:
        """``array`` in the shape of the value: engines leave axes of size 1 out, or put them in."""
        shape = self.shapes[value]
        fits = array.size == prod(shape)
        return np.require(array.reshape(shape) if fits else array, np.float32, "C")


def _judged(
    block: _Block, nodes: tuple[Node, ...], found: Array, is_torch: bool, nudge: float
) -> tuple[float, float, bool]:
    """Error and limit of ``found``, an engine's value of the block, and whether it is torch's."""
    free = nodes[-1].layer.free_axes
    plain = block.run(double=False)
    apart = _difference(plain, found, free)
    by_torch = not apart.exceeds(None)
    if by_torch and not is_torch:
        return apart.max_abs, apart.limit(None), by_torch
    exact = block.run(double=True)
    apart = _difference(exact, found, free)
    if not apart.exceeds(None):
        return apart.max_abs, apart.limit(None), by_torch
    rng = np.random.default_rng(SEED)
    nudged = [block.run(double=True, rng=rng, nudge=nudge) for _ in range(NUDGED_RUNS)]
    if free:
        runs = [exact, *nudged] if is_torch else [plain, exact, *nudged]
        explained = rows_left_open(runs, found, min(free))
        return apart.max_abs, apart.max_abs if explained else apart.limit(None), by_torch
    spread = max(_difference(exact, run, free).max_abs for run in nudged)
    return apart.max_abs, max(apart.limit(None), ROUNDING * spread), by_torch


def _difference(first: Array, second: Array, free: frozenset[int]) -> BlobDifference:
    difference = BlobDifference("", detections=is_detections(second.shape, free))
    difference.add(first, second)
    return difference


class _Block:
    """A few layers with what they read, to be run for one of their values."""

    def __init__(self, net: Graph, inputs: Mapping[str, FloatArray], value: str) -> None:
        self.net, self.inputs, self.value = net, inputs, value

    def run(
        self, double: bool, rng: np.random.Generator | None = None, nudge: float = 0.0
    ) -> Array:
        """The value; with ``rng``, what is read and the weights are nudged first."""
        import torch

        from caffe2torch.lower.to_torch import to_torch

        module = to_torch(self.net).eval()
        inputs = {name: torch.from_numpy(array.copy()) for name, array in self.inputs.items()}
        if double:
            module.double()
            inputs = {name: tensor.double() for name, tensor in inputs.items()}
        with torch.no_grad():
            if rng is not None:
                for tensor in (*module.parameters(), *module.buffers(), *inputs.values()):
                    _nudge(tensor, rng, nudge)
            found: Array = module.blobs(inputs)[self.value].numpy()
        return in_float32_range(found) if double else found


def _nudge(tensor: Any, rng: np.random.Generator, nudge: float) -> None:
    """Move each number that is not whole by up to ``nudge`` of itself."""
    import torch

    if tensor.is_floating_point():
        noise = torch.from_numpy(1 + rng.uniform(-nudge, nudge, tuple(tensor.shape)))
        tensor.mul_(torch.where(tensor == tensor.round(), torch.ones_like(noise), noise))


def rows_left_open(runs: Sequence[Array], found: Array, axis: int) -> bool:
    """Whether rounding explains which rows ``found`` has, and their order.

    ``runs`` are results of the layer on numbers that differ by rounding alone; their rows lie
    along ``axis``. Rows that all of them have are certain, and have to be found; beside them there
    may be as many as a run has that are not.
    """
    tables = [_rows(run, axis) for run in runs]
    rows = _rows(found, axis)
    if any(table.shape[1] != rows.shape[1] for table in tables):
        return False
    limit = BlobDifference("")
    limit.add(tables[0], tables[0])
    near = limit.limit(None)
    certain = np.array([all(_has(t, row, near) for t in tables[1:]) for row in tables[0]], bool)
    kept = tables[0][certain]
    extra = sum(not _has(kept, row, near) for row in rows)
    return all(_has(rows, row, near) for row in kept) and extra <= max(
        len(table) - len(kept) for table in tables
    )


def _rows(array: Array, axis: int) -> Array:
    front = np.moveaxis(array, axis, 0)
    return front.reshape(len(front), -1)


def _has(table: Array, row: Array, near: float) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(np.any(np.all((np.abs(table - row) <= near) | (table == row), axis=1)))


def back_to(
    shown: set[str], producer: Mapping[str, Node], value: str
) -> tuple[list[Node], tuple[str, ...]]:
    """The layers between ``value`` and the nearest values that are ``shown``, and those."""
    nodes = [producer[value]]
    reads: dict[str, None] = {}
    pending = list(producer[value].inputs)
    while pending:
        current = pending.pop(0)
        if current in shown:
            reads[current] = None
        elif not any(node is producer[current] for node in nodes):
            nodes.append(producer[current])
            pending.extend(producer[current].inputs)
    return nodes, tuple(reads)
