"""The precision and the order of memory in which a net computes while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from caffe2torch.graph import Graph, Node
from caffe2torch.layers import Layer
from caffe2torch.layers._convolution import ConvolutionBase
from caffe2torch.layers.inner_product import InnerProduct
from caffe2torch.layers.pooling import Pooling
from caffe2torch.lower.fast import IN_ANY_LAYOUT, is_ordinary, laid_out_plainly
from caffe2torch.lower.overwritten import in_full
from caffe2torch.lower.recorder import is_module_alone

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

CARRY = frozenset(
    "AbsVal Concat Crop Dropout Eltwise Flatten Permute Pooling ReLU ReLU6 Reshape ShuffleChannel "
    "Silence Slice Split".split()
)
"""Layer types that compute on numbers of a lower precision as well as it holds them: they
choose, move, compare or add them, without learned blobs and without sums of many."""

Function = Callable[..., Any]


def mixed(device: torch.device, precision: str) -> torch.autocast:
    """Within the block torch computes products of matrices and convolutions in ``precision``."""
    return torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")


def _channels_last_pays(device: torch.device, precision: str) -> bool:
    """Whether channels last is the faster order of memory for convolutions.

    On a CPU it is in every precision (a step of squeezenet's model 1.4 times in fp32, 1.7 times in
    bf16). On a GPU the tensor cores, which compute in bf16 and fp16, take it.
    """
    return device.type == "cpu" or precision != "fp32"


def prefers_channels_last(model: nn.Module, device: torch.device, precision: str) -> bool:
    """Whether channels last is the faster order of memory for the whole of a model, and safe.

    On a CPU it is not safe for a convolution whose window can lie in the padding alone, as in
    conv10 of SqueezeNet v1.0.
    """
    if not _channels_last_pays(device, precision):
        return False
    convolutions = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    return device.type != "cpu" or all(map(is_ordinary, convolutions))


@dataclass(frozen=True)
class Arithmetic:
    """How the layers of a net compute; learned blobs and their gradients are float32 in any case.

    Convolutions and InnerProducts, where nearly all the time goes, multiply in ``precision``:
    "fp32" or "bf16". With ``channels_last`` those that are safe so keep the channels of their
    blobs together in memory, which changes roundings alone; None does it where it is faster. In
    bf16 layers of the types ``CARRY`` go on with what they get, all others get float32.
    """

    precision: str = "fp32"
    channels_last: bool | None = None

    def of(
        self, graph: Graph, module: nn.Module, device: torch.device
    ) -> Callable[[Node, Function], Function]:
        """What makes, of a node's function, one that takes bottoms of any precision and order."""
        ordered = self.channels_last
        if ordered is None:
            # In bf16 with BatchNorm it costs more than it gains on a CPU (ResNet-50: a sixth).
            loses = device.type == "cpu" and self.precision != "fp32" and _normalises(graph)
            ordered = _channels_last_pays(device, self.precision) and not loses
        last = _in_order(graph, module, self.precision) if ordered else frozenset()

        def around(node: Node, function: Function) -> Function:
            if isinstance(node.layer, ConvolutionBase | InnerProduct):
                own, order = module.get_submodule(node.key), plain
                if node.key in last:
                    order = _channels_last
                return lambda *bottoms: (
                    multiply(function, *map(order, bottoms))
                    if all(_is_wide(own, x) for x in bottoms)
                    else function(*(plain(in_full(x)) for x in bottoms))
                )
            order = _as_it_is if node.layer.type in IN_ANY_LAYOUT else plain
            width = _as_it_is if self.precision == "fp32" or _carries(node.layer) else in_full
            return lambda *bottoms: function(*(order(width(x)) for x in bottoms))

        def plain(x: Tensor) -> Tensor:
            return laid_out_plainly(x) if last else x

        def multiply(function: Function, *bottoms: Tensor) -> Any:
            with mixed(device, self.precision):
                return function(*bottoms)

        return around


PLAIN = Arithmetic("fp32", channels_last=False)
"""Caffe's own."""


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _is_wide(own: nn.Module, x: Tensor) -> bool:
    """Whether an image has the size of a convolution's kernel and stride, on all axes.

    Of narrower ones oneDNN (3.12) gives gradients of weights, and results, in bf16 that are read
    from other memory. Those are computed in float32. A Deconvolution's image is its top.
    """
    if not isinstance(own, nn.modules.conv._ConvNd):
        return True
    sizes = x.shape[-len(own.kernel_size) :]
    pads = map(int, own.padding)
    windows = zip(sizes, own.kernel_size, own.stride, pads, own.dilation, strict=True)
    for size, kernel, stride, pad, dilation in windows:
        extent = dilation * (kernel - 1) + 1
        image = (size - 1) * stride + extent - 2 * pad if own.transposed else size
        if image < max(extent, stride):
            return False
    return True


def _is_common(convolution: nn.Conv2d) -> bool:
    """Without groups and square, with a stride of the kernel at most.

    Of others oneDNN (3.12) writes beyond its memory for some in bf16, such as one with a kernel
    and a stride of (2, 7) and a pad of (0, 3) on images 14 wide.
    """
    square = all(
        len(set(sizes)) == 1
        for sizes in (convolution.kernel_size, convolution.stride, convolution.padding)
    )
    stride, kernel = convolution.stride[0], convolution.kernel_size[0]
    return square and convolution.groups == 1 and stride <= kernel


def _carries(layer: Layer) -> bool:
    # Pooling in a form of its own gives indices, or -FLT_MAX, which no lower precision holds.
    return layer.type in CARRY and (not isinstance(layer, Pooling) or layer.has_module())


def _normalises(graph: Graph) -> bool:
    return any(node.layer.type in ("BatchNorm", "BN") for node in graph.nodes)


def _in_order(graph: Graph, module: nn.Module, precision: str) -> frozenset[str]:
    """The keys of the convolutions that are safe, and fast, with channels last."""
    found = set()
    for node in graph.nodes:
        own = module.get_submodule(node.key)
        bottoms = [graph.shapes[name] for name in node.inputs]
        if (
            type(own) is nn.Conv2d
            and is_module_alone(node.layer, bottoms)
            and is_ordinary(own)
            and own.dilation == (1, 1)  # Each window meets the image, whatever its size.
            and (precision == "fp32" or _is_common(own))
        ):
            found.add(node.key)
    return frozenset(found)
