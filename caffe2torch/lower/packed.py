"""The torch lowering in the form that runs fastest, for inference only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from caffe2torch.errors import NetError
from caffe2torch.graph import Graph, Node
from caffe2torch.layers.relu import ReLU
from caffe2torch.lower.batch import batch_of, shapes_at
from caffe2torch.lower.to_torch import CaffeModule, Function, Inputs, Outputs, steps_of

BLOB_BYTES = 32 << 20
"""The largest blob of a part of a batch. The C library maps larger ones afresh in every pass,
which costs more than the layers that fill them."""

SHAPES = 2
"""Input shapes whose packed weights are kept: a batch in parts has two."""

BY_ITEM = frozenset(
    "AbsVal Bias BNLL Clip Concat Convolution ConvolutionDepthwise Deconvolution "
    "DepthwiseConvolution Dropout Eltwise ELU Exp Flatten InnerProduct Log LRN Permute Pooling "
    "Power PReLU ReLU ReLU6 Scale ShuffleChannel Sigmoid Slice Softmax Split Swish TanH "
    "Threshold Upsample".split()
)
"""Layer types that compute each item of a batch alone where their tops have the batch first."""

_CONVOLVE: Function | None = (
    torch.ops.mkldnn._convolution_pointwise.default
    if torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    else None
)
"""oneDNN's convolution with packed weights, where torch has it."""


class PackedModule(CaffeModule):
    """A net for inference: packed convolutions with their ReLU, large batches in parts.

    On the CPU a convolution runs on channels-last blobs with weights in oneDNN's own layout,
    and the ReLU that follows it in the same pass; elsewhere the plain operators run on
    channels-last blobs. A blob that only a ReLU reads is not among ``blobs``. Arrays have
    the keys of the plain module and may be changed or loaded. Layers are bound when they first
    run: replacing one afterwards, or a hook on it, has no effect.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._part = _items_at_once(graph)
        self._bound: tuple[list[tuple[int, int | None]], list[Function]] | None = None
        """The state of the arrays when the layers were bound, and what they were bound to."""
        self._pack()
        self._tables = [module._parameters for module in self.modules() if module._parameters]
        self.requires_grad_(False)
        self.eval()

    def forward(self, inputs: Inputs) -> Outputs:
        """As CaffeModule's."""
        values = self._named_inputs(inputs)
        part, first = self._part, next(iter(values.values()), None)
        if part is None or first is None or len(first) <= part or first.device.type != "cpu":
            return super().forward(values)
        splits = [torch.split(value, part) for value in values.values()]
        results = [
            super(PackedModule, self).forward(dict(zip(values, tensors, strict=True)))
            for tensors in zip(*splits, strict=True)
        ]
        return _joined(results)

    @property
    def splits_batches(self) -> bool:
        """Whether large batches run in parts."""
        return self._part is not None

    @contextmanager
    def parts_of(self, items: int) -> Iterator[None]:
        """Run batches in parts of ``items``, within the block."""
        before, self._part = self._part, items
        try:
            yield
        finally:
            self._part = before

    def train(self, mode: bool = True) -> PackedModule:
        """Stay in evaluation mode. Raises NetError for ``mode`` True."""
        if mode:
            raise NetError(
                "an optimised module is for inference: it has no BatchNorm or Dropout left. Train "
                "the module that it was made from."
            )
        super().train(False)
        return self

    def _functions(self, values: Mapping[str, Tensor]) -> Iterable[Function]:
        # Little Python: the processor has forgotten it by the time of the next pass, so that
        # for one image the modules' own code takes a tenth of the time.
        arrays = [array for table in self._tables for array in table.values() if array is not None]
        if not _runs_bound(values, arrays):
            return super()._functions(values)
        state = [(a.data_ptr(), None if a.is_inference() else a._version) for a in arrays]
        bound = self._bound
        if bound is None or bound[0] != state:
            functions = [self._bind(step.path) for step in self._steps]
            self._bound = bound = state, functions
        return bound[1]

    def _bind(self, path: tuple[str, ...]) -> Function:
        layer = self.get_submodule(".".join(path))
        if isinstance(layer, PackedConvolution):
            return layer.bound()
        return self._function(path, layer) if path in self._around else layer.forward

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_bound": None}  # It cannot be copied or pickled.

    def _pack(self) -> None:
        """Replace the convolutions, and drop the ReLUs that they do along."""
        relus = _sole_relus(self.caffe_graph)
        nodes, dropped = [], set()
        for node in self.caffe_graph.nodes:
            if node.key in dropped:
                continue
            module = self.get_submodule(node.key)
            if type(module) is nn.Conv2d and tuple(node.key.split(".")) not in self._around:
                relu = relus.get(node.outputs[0])
                self._attach(node.key, PackedConvolution(module, relu is not None))
                if relu is not None:
                    dropped.add(relu.key)
                    node = replace(node, outputs=relu.outputs)
            nodes.append(node)
        made = {name for node in nodes for name in node.outputs}
        made.update(i.name for i in self.caffe_graph.inputs)
        blobs = {blob: value for blob, value in self.caffe_graph.blobs.items() if value in made}
        self.caffe_graph = replace(self.caffe_graph, nodes=tuple(nodes), blobs=blobs)
        self._steps = steps_of(self.caffe_graph)


class PackedConvolution(nn.Module):
    """Conv2d, perhaps followed by ReLU, on channels-last blobs."""

    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.weight, self.relu = convolution.weight, relu
        self.bias = convolution.bias
        self._geometry = (
            [int(p) for p in convolution.padding],
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        padding, stride, dilation, groups = self._geometry
        x = x.contiguous(memory_format=torch.channels_last)
        y = nn.functional.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
        return y.relu_() if self.relu else y

    def bound(self) -> Function:
        """``forward`` with the present arrays, for float32 on the CPU without gradients.

        oneDNN chooses the layout of the weight for a shape of the input; packed weights are
        kept for ``SHAPES`` shapes.
        """
        weight = self.weight.detach()
        if _CONVOLVE is None or not weight.is_cpu or weight.dtype is not torch.float32:
            return self.forward
        convolve, bias, channels_last = _CONVOLVE, self.bias, torch.channels_last
        arguments: tuple[Any, ...] = (*self._geometry, "relu" if self.relu else "none", [], "")
        packed: dict[torch.Size, Tensor] = {}

        def forward(x: Tensor) -> Tensor:
            x = x.contiguous(memory_format=channels_last)
            shape = x.shape
            fitting = packed.get(shape)
            if fitting is None:
                if len(packed) == SHAPES:
                    packed.clear()
                fitting = torch.ops.mkldnn._reorder_convolution_weight(
                    weight.contiguous(memory_format=channels_last), *arguments[:4], list(shape)
                )
                packed[shape] = fitting
            return convolve(x, fitting, bias, *arguments)  # type: ignore[no-any-return]

        return forward

    def extra_repr(self) -> str:
        """Sizes, and whether ReLU follows."""
        return f"{tuple(self.weight.shape)}, {self._geometry}, relu={self.relu}"


def _runs_bound(values: Mapping[str, Tensor], arrays: Sequence[Tensor]) -> bool:
    """Whether a pass is on the CPU, without gradients and automatic casts."""
    return (
        all(value.is_cpu for value in values.values())
        and not torch.is_autocast_enabled("cpu")
        and not (
            torch.is_grad_enabled()
            and any(tensor.requires_grad for tensor in (*values.values(), *arrays))
        )
    )


def _joined(results: Sequence[Outputs]) -> Outputs:
    first = results[0]
    if isinstance(first, Tensor):
        return torch.cat([r for r in results if isinstance(r, Tensor)])
    return {
        name: torch.cat([r[name] for r in results if not isinstance(r, Tensor)]) for name in first
    }


def _sole_relus(graph: Graph) -> dict[str, Node]:
    """ReLU nodes by the value that only they read."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update(graph.blobs[blob] for blob in graph.outputs)
    return {
        node.inputs[0]: node
        for node in graph.nodes
        if isinstance(node.layer, ReLU)
        and not node.layer.negative_slope
        and readers[node.inputs[0]] == 1
    }


def _is_by_item(node: Node, graph: Graph) -> bool:
    shape = graph.shapes[node.inputs[0]] if node.inputs else ()
    return node.layer.type in BY_ITEM or (
        len(shape) > 1 and node.layer.affine(graph.arrays(node), shape[1]) is not None
    )


def _items_at_once(graph: Graph) -> int | None:
    """How many items of a batch to run together; None if they cannot be parted."""
    batch = batch_of(graph)
    if batch is None or not all(_is_by_item(node, graph) for node in graph.nodes):
        return None
    shapes = shapes_at(graph, batch, batch + 1)
    if shapes != {name: (batch + 1, *shape[1:]) for name, shape in graph.shapes.items()}:
        return None
    largest = max(4 * prod(shape[1:]) for shape in graph.shapes.values())
    return max(1, BLOB_BYTES // largest)
