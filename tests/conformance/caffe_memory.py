"""Caffe's backward passes on Caffe's memory, transcribed to NumPy: blobs that layers overwrite.

Each function reads and writes the arrays of its blobs in the order in which Backward_cpu does, so
that a layer in place, whose two blobs are one, spoils what Caffe's spoils. Forward functions write
into the top and give what the layer keeps. Arrays are (N, C, H, W) in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass
class Blob:
    """Memory of values and of gradients."""

    data: Array
    diff: Array = field(init=False)

    def __post_init__(self) -> None:
        self.diff = np.zeros_like(self.data)


class Kind(NamedTuple):
    """A layer: prototxt without name and blobs, forward and backward."""

    text: str
    forward: Callable[[Array], tuple[Array, Any]]
    """The top's values of the bottom's, and what the layer keeps."""
    backward: Callable[[Blob, Blob, Any], None]
    """Of bottom, top and what is kept."""


def elementwise(slope: Callable[[Array, Array], Array]) -> Callable[[Blob, Blob, Any], None]:
    """A loop over elements, which reads a top's gradient before it writes the bottom's."""

    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        bottom.diff[...] = top.diff * slope(bottom.data, top.data)

    return backward


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def relu(slope: float) -> Kind:
    return Kind(
        f'type: "ReLU" relu_param {{ negative_slope: {slope} }}',
        lambda x: (np.maximum(x, 0) + slope * np.minimum(x, 0), None),
        elementwise(lambda x, y: (x > 0) + slope * (x <= 0)),
    )


def elu(alpha: float) -> Kind:
    return Kind(
        f'type: "ELU" elu_param {{ alpha: {alpha} }}',
        lambda x: (np.maximum(x, 0) + alpha * (np.exp(np.minimum(x, 0)) - 1), None),
        elementwise(lambda x, y: (x > 0) + (alpha + y) * (x <= 0)),
    )


def power(exponent: float, scale: float, shift: float) -> Kind:
    factor = exponent * scale

    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        if factor == 0 or exponent == 1:
            bottom.diff[...] = factor
        elif exponent == 2:
            bottom.diff[...] = factor * scale * bottom.data + factor * shift
        elif shift == 0:
            bottom.diff[...] = top.data / bottom.data
            bottom.diff *= exponent
        else:
            bottom.diff[...] = bottom.data
            bottom.diff *= scale
            bottom.diff += shift
            bottom.diff[...] = top.data / bottom.diff
            bottom.diff *= factor
        if factor != 0:
            bottom.diff[...] = top.diff * bottom.diff

    return Kind(
        f'type: "Power" power_param {{ power: {exponent} scale: {scale} shift: {shift} }}',
        lambda x: ((shift + scale * x) ** exponent, None),
        backward,
    )


def log(base: float, scale: float, shift: float) -> Kind:
    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        bottom.diff[...] = bottom.data
        bottom.diff *= scale
        bottom.diff += shift
        bottom.diff **= -1
        bottom.diff *= scale / np.log(base)
        bottom.diff[...] = top.diff * bottom.diff

    return Kind(
        f'type: "Log" log_param {{ base: {base} scale: {scale} shift: {shift} }}',
        lambda x: (np.log(scale * x + shift) / np.log(base), None),
        backward,
    )


def exp(base: float, scale: float) -> Kind:
    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        bottom.diff[...] = top.data * top.diff
        bottom.diff *= np.log(base) * scale

    return Kind(
        f'type: "Exp" exp_param {{ base: {base} scale: {scale} }}',
        lambda x: (base ** (scale * x), None),
        backward,
    )


def clip(low: float, high: float) -> Kind:
    return Kind(
        f'type: "Clip" clip_param {{ min: {low} max: {high} }}',
        lambda x: (np.maximum(low, np.minimum(x, high)), None),
        elementwise(lambda x, y: np.where((x >= low) & (x <= high), 1.0, 0.0)),
    )


def swish(beta: float) -> Kind:
    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        bottom.diff[...] = top.diff * (beta * top.data + kept * (1 - beta * top.data))

    return Kind(
        f'type: "Swish" swish_param {{ beta: {beta} }}',
        lambda x: (x * sigmoid(beta * x), sigmoid(beta * x)),
        backward,
    )


def softmax() -> Kind:
    def forward(x: Array) -> tuple[Array, Any]:
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), None

    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        bottom.diff[...] = top.diff
        bottom.diff -= (bottom.diff * top.data).sum(1, keepdims=True)
        bottom.diff *= top.data

    return Kind('type: "Softmax"', forward, backward)


def mvn(normalize: bool, across: bool, eps: float = 2**-10) -> Kind:
    axes = (1, 2, 3) if across else (2, 3)

    def forward(x: Array) -> tuple[Array, Any]:
        x = x - x.mean(axes, keepdims=True)
        deviation = np.sqrt((x**2).mean(axes, keepdims=True)) + eps
        return (x / deviation if normalize else x), deviation

    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        count = np.prod([bottom.data.shape[axis] for axis in axes])
        if not normalize:
            bottom.diff[...] = top.diff - top.diff.sum(axes, keepdims=True) / count
            return
        bottom.diff[...] = top.data * top.diff
        bottom.diff[...] = bottom.diff.sum(axes, keepdims=True)
        bottom.diff[...] = top.data * bottom.diff
        bottom.diff += top.diff.sum(axes, keepdims=True)
        bottom.diff *= -1 / count  # caffe_cpu_axpby: first it scales what it adds to, ...
        bottom.diff += top.diff  # ... which in place is what it adds, too.
        bottom.diff /= kept

    flags = f"normalize_variance: {normalize} across_channels: {across} eps: {eps}".lower()
    return Kind(f'type: "MVN" mvn_param {{ {flags} }}', forward, backward)


def sums(x: Array, size: int, *, within: bool) -> Array:
    """The sums over the windows of ``size`` channels, or ``size`` x ``size`` pixels."""
    half = size // 2
    total = np.zeros_like(x)
    steps = range(-half, half + 1)
    moves = [(0, i, j) for i in steps for j in steps] if within else [(i, 0, 0) for i in steps]
    padded = np.pad(x, [(0, 0)] + [(half, half)] * 3)
    _, channels, height, width = x.shape
    for c, i, j in moves:
        total += padded[
            :,
            half + c : half + c + channels,
            half + i : half + i + height,
            half + j : half + j + width,
        ]
    return total


def lrn(size: int, alpha: float, beta: float, k: float) -> Kind:
    def forward(x: Array) -> tuple[Array, Any]:
        scale = k + alpha / size * sums(x**2, size, within=False)
        return x * scale**-beta, scale

    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        bottom.diff[...] = kept**-beta
        bottom.diff *= top.diff
        ratio = sums(top.diff * top.data / kept, size, within=False)
        bottom.diff -= 2 * alpha * beta / size * bottom.data * ratio

    numbers = f"local_size: {size} alpha: {alpha} beta: {beta} k: {k}"
    return Kind(f'type: "LRN" lrn_param {{ {numbers} }}', forward, backward)


def lrn_within(size: int, alpha: float, beta: float) -> Kind:
    """Split, square, average, power and product: all blobs between are the layer's own."""

    def forward(x: Array) -> tuple[Array, Any]:
        mean = sums(x**2, size, within=True) / size**2
        factor = (1 + alpha * mean) ** -beta
        return x * factor, (mean, factor)

    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        mean, factor = kept
        of_product = factor * top.diff
        of_power = bottom.data * top.diff * factor / (1 + alpha * mean) * (-beta * alpha)
        of_square = sums(of_power / size**2, size, within=True) * 2 * bottom.data
        bottom.diff[...] = of_product + of_square

    numbers = f"local_size: {size} alpha: {alpha} beta: {beta} norm_region: WITHIN_CHANNEL"
    return Kind(f'type: "LRN" lrn_param {{ {numbers} }}', forward, backward)


def scale(factor: float) -> Kind:
    """The learned scale of each channel; in place it keeps a copy of the bottom."""

    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        bottom.diff[...] = factor * top.diff

    return Kind(
        f'type: "Scale" scale_param {{ filler {{ type: "constant" value: {factor} }} }}',
        lambda x: (factor * x, None),
        backward,
    )


def prelu(slope: float) -> Kind:
    def backward(bottom: Blob, top: Blob, kept: Any) -> None:
        x = kept if bottom is top else bottom.data
        bottom.diff[...] = top.diff * ((x > 0) + slope * (x <= 0))

    return Kind(
        f'type: "PReLU" prelu_param {{ filler {{ type: "constant" value: {slope} }} }}',
        lambda x: (np.maximum(x, 0) + slope * np.minimum(x, 0), x.copy()),
        backward,
    )


def bnll() -> Kind:
    def slope(x: Array, y: Array) -> Array:
        e = np.exp(np.minimum(x, 50))
        return e / (e + 1)

    return Kind('type: "BNLL"', lambda x: (np.log1p(np.exp(x)), None), elementwise(slope))


SIGMOID = Kind(
    'type: "Sigmoid"', lambda x: (sigmoid(x), None), elementwise(lambda x, y: y * (1 - y))
)
TANH = Kind('type: "TanH"', lambda x: (np.tanh(x), None), elementwise(lambda x, y: 1 - y * y))
