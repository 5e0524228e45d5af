"""The torch lowering in the form that runs fastest, for inference only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import NetError
from caffe2torch.graph import Graph, Node
from caffe2torch.layers.dropout import Dropout
from caffe2torch.layers.relu import ReLU
from caffe2torch.layers.softmax import Softmax
from caffe2torch.lower.batch import batch_of, shapes_at
from caffe2torch.lower.eager import Function
from caffe2torch.lower.overwritten import lost_gradients
from caffe2torch.lower.to_torch import CaffeModule, Inputs, Outputs, steps_of

BLOB_BYTES = 32 << 20
"""The largest blob of a part of a batch. The C library maps larger ones afresh in every pass,
which costs more than the layers that fill them."""

BY_ITEM = frozenset(
    "AbsVal Bias BNLL Clip Concat Convolution ConvolutionDepthwise Deconvolution "
    "DepthwiseConvolution Dropout Eltwise ELU Exp Flatten InnerProduct Log LRN Permute Pooling "
    "Power PReLU ReLU ReLU6 Scale ShuffleChannel Sigmoid Slice Softmax Split Swish TanH "
    "Threshold Upsample".split()
)
"""Layer types that compute each item of a batch alone where their tops have the batch first."""

IN_ANY_LAYOUT = frozenset(
    "AbsVal BatchNorm Bias BN Clip Concat Eltwise ELU LRN Pooling Power PReLU ReLU ReLU6 Scale "
    "Sigmoid Slice Split Swish TanH".split()
)
"""Layer types that run on channels-last blobs as fast and as safely as on others: no convolution
is in them, and no random numbers, which are drawn in the order of memory. The bottoms of all
others are laid out plainly first."""


class FastModule(CaffeModule):
    """A net for inference: channels-last convolutions with their ReLU, large batches in parts.

    A blob that only a ReLU reads is not among ``blobs``. Arrays have the keys of the plain
    module and may be changed or loaded: none is copied. Layers are bound at the first pass:
    replacing one afterwards, or a hook on it, has no effect on the CPU.

    Channels-last is twice as fast, and not always safe: ``FastConvolution`` says where it is
    taken. Where gradients, automatic casts or a trace are asked for, the plain operators run.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self._part = _items_at_once(graph)
        self._bound: list[Function] | None = None
        self._take_relus()
        self.requires_grad_(False)
        self.eval()

    def forward(self, *inputs: Inputs | None) -> Outputs:
        """As CaffeModule's."""
        values = self._named_inputs(self._by_name(inputs))
        part = self._part if _are_on_cpu(values) else None
        sizes = {len(value) for value in values.values()} if part else set()
        if part is None or len(sizes) != 1 or sizes.pop() <= part:
            return super().forward(values)
        splits = [torch.split(value, part) for value in values.values()]
        results = [
            super(FastModule, self).forward(dict(zip(values, tensors, strict=True)))
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

    def train(self, mode: bool = True) -> FastModule:
        """Stay in evaluation mode. Raises NetError for ``mode`` True."""
        if mode:
            raise NetError(
                "an optimised module is for inference: it has no BatchNorm or Dropout left. Train "
                "the module that it was made from."
            )
        super().train(False)
        return self

    def functions(self, values: Mapping[str, Tensor]) -> Iterable[Function]:
        """What to call at each step: the fast forms where these inputs allow it."""
        if not self._runs_fast(values):
            return super().functions(values)
        if self._bound is None:
            self._bound = [
                self._bind(step.path, node)
                for step, node in zip(self._steps, self.caffe_graph.nodes, strict=True)
            ]
        return self._bound

    def _runs_fast(self, values: Mapping[str, Tensor]) -> bool:
        """Whether a pass is on the CPU, and nothing but its results is asked for."""
        return (
            _are_on_cpu(values)
            and not torch.is_autocast_enabled("cpu")
            and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
            and not torch.compiler.is_compiling()
            and not (
                torch.is_grad_enabled()
                and any(t.requires_grad for t in (*values.values(), *self.parameters()))
            )
        )

    def _bind(self, path: tuple[str, ...], node: Node) -> Function:
        # Without the modules' own code, which for one image takes a tenth of the time.
        layer = self.get_submodule(".".join(path))
        if isinstance(layer, FastConvolution):
            return layer.fast
        function = self._function(path, layer) if path in self._around else layer.forward
        if node.layer.type in IN_ANY_LAYOUT:
            return function
        return lambda *inputs: function(*map(laid_out_plainly, inputs))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_bound": None}  # A copy must not be bound to this one's layers.

    def _take_relus(self) -> None:
        """Replace the convolutions, and drop the ReLUs that they do along."""
        relus = _sole_relus(self.caffe_graph)
        owners = Counter(key for node in self.caffe_graph.nodes for key in node.params.values())
        nodes, dropped = [], set()
        for node in self.caffe_graph.nodes:
            if node.key in dropped:
                continue
            module = self.get_submodule(node.key)
            if type(module) is nn.Conv2d and tuple(node.key.split(".")) not in self._around:
                relu = relus.get(node.outputs[0])
                fast = FastConvolution(module, relu is not None)
                if fast.is_ordinary and owners[node.params["weight"]] == 1:
                    with torch.no_grad():
                        channels_last = fast.weight.to(memory_format=torch.channels_last)
                    fast.weight = nn.Parameter(channels_last)
                self._attach(node.key, fast)
                if relu is not None:
                    dropped.add(relu.key)
                    node = replace(node, outputs=relu.outputs)
            nodes.append(node)
        made = {name for node in nodes for name in node.outputs}
        made.update(i.name for i in self.caffe_graph.inputs)
        blobs = {blob: value for blob, value in self.caffe_graph.blobs.items() if value in made}
        self.caffe_graph = replace(self.caffe_graph, nodes=tuple(nodes), blobs=blobs)
        self._steps = steps_of(self.caffe_graph, (), lost_gradients(self.caffe_graph))


def is_ordinary(convolution: nn.Conv2d) -> bool:
    """Whether channels-last is safe on a CPU for images of the dilation's size or more."""
    sizes = zip(
        map(int, convolution.padding), convolution.dilation, convolution.kernel_size, strict=True
    )
    return convolution.in_channels > 1 and all(p <= d * (k - 1) for p, d, k in sizes)


class FastConvolution(nn.Module):
    """Conv2d, perhaps followed by ReLU.

    On channels-last blobs oneDNN's kernels (3.12, of all x86 levels) read beyond their arrays, and
    die or give numbers from elsewhere, for

    * a window that lies in the padding alone: ``pad`` of the kernel's extent or more, or a
      dilation beyond the image's size, whose pixels can stand on both sides of the image;
    * one input channel, where the output is one column wide and the stride is more than 1.

    So ``fast`` takes channels-last where each window meets the image and there are two channels
    or more, for float32; all else runs on plainly laid out arrays, where none of that happens.
    Only public operators run, on arrays that torch checks at every call. ReLU stands beside
    the convolution, as oneDNN's fused one makes 0 of NaN.
    """

    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.weight, self.bias, self.relu = convolution.weight, convolution.bias, relu
        self.stride, self.padding = convolution.stride, tuple(map(int, convolution.padding))
        self.groups, kernel = convolution.groups, convolution.kernel_size
        self.dilation = convolution.dilation
        self.is_ordinary = is_ordinary(convolution)
        self.is_pointwise = (kernel, self.stride, self.padding, self.groups) == (
            (1, 1), (1, 1), (0, 0), 1
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W'); on the CPU with plainly laid out arrays."""
        if not x.is_cpu:
            y = self._convolve(x.contiguous(memory_format=torch.channels_last), self.weight)
        else:
            y = self._convolve(laid_out_plainly(x), laid_out_plainly(self.weight))
        return F.relu(y) if self.relu else y

    def fast(self, x: Tensor) -> Tensor:
        """The same on the CPU, channels-last where that is safe."""
        height, width = self.dilation
        if (
            not self.is_ordinary
            or x.ndim != 4
            or x.shape[2] < height
            or x.shape[3] < width
            or x.dtype is not torch.float32
            or not x.is_cpu
        ):
            return self.forward(x)
        if self.is_pointwise and len(x) == 1:  # A product of matrices starts sooner.
            pixels = F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
            y = pixels.permute(0, 3, 1, 2)
        else:
            y = self._convolve(x.contiguous(memory_format=torch.channels_last), self.weight)
        return y.relu_() if self.relu else y

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Sizes, and whether ReLU follows."""
        return (
            f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, groups={self.groups}, relu={self.relu}"
        )


def laid_out_plainly(x: Tensor) -> Tensor:
    """``x`` with the strides of a new tensor, which ``contiguous`` leaves alone on axes of size 1.

    torch takes those as a sign of channels-last.
    """
    return x.flatten().view(x.shape)


def _are_on_cpu(values: Mapping[str, Tensor]) -> bool:
    # (torch.fx traces with what has no device yet.)
    return all(isinstance(value, Tensor) and value.is_cpu for value in values.values())


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
        and len(node.outputs) == 1
        and not node.layer.negative_slope
        and readers[node.inputs[0]] == 1
    }


def _is_by_item(node: Node, graph: Graph) -> bool:
    shape = graph.shapes[node.inputs[0]] if node.inputs else ()
    if isinstance(node.layer, Softmax) and node.layer.axis % len(shape) == 0:
        return False
    if isinstance(node.layer, Dropout) and not node.layer.is_identity:
        return False
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
    return max(1, BLOB_BYTES // max(1, largest))
