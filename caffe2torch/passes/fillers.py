"""Initial values of learned blobs as Caffe's fillers make them (Caffe: filler.hpp)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message, enum_name

Values = npt.NDArray[Any]
BY_FIRST_AXIS = frozenset({"positive_unitball", "xavier", "msra"})
"""Fillers whose values depend on the size of the first axis."""
DETERMINISTIC = frozenset({"constant", "bilinear"})


def fill(filler: Message, shape: Shape, rng: np.random.Generator) -> FloatArray:
    """Values of ``filler`` (a FillerParameter) in ``shape``.

    Random fillers draw from ``rng``: the distribution is Caffe's, the numbers are not.
    Raises UnsupportedLayerError for an unknown filler type, or parameters that make none.
    """
    make = _FILLERS.get(filler.type)
    if make is None:
        raise UnsupportedLayerError(
            f"unknown filler type {filler.type!r}; known are {', '.join(sorted(_FILLERS))}."
        )
    try:
        return np.asarray(make(filler, shape, rng), dtype=np.float32).reshape(shape)
    except (ArithmeticError, ValueError) as error:
        raise UnsupportedLayerError(
            f"the {filler.type} filler cannot fill {shape} with its parameters ({error})."
        ) from None


def check_filler(filler: Message, shape: Shape) -> None:
    """Raise NetError where Caffe cannot fill a blob of ``shape``, which it does in any case."""
    kind = filler.type
    if filler.sparse != -1 and (kind != "gaussian" or filler.sparse < -1):
        raise NetError(f"sparse is for the gaussian filler, not for {kind!r}; remove it.")
    if not shape and (kind in BY_FIRST_AXIS or filler.sparse >= 0):
        raise NetError(f"the {kind} filler needs a blob with axes; give this one a constant.")
    if shape and filler.sparse > shape[0]:
        raise NetError(
            f"the gaussian filler's sparse {filler.sparse} is above {shape[0]}, the size of the "
            f"first axis of the blob {shape}, and a probability cannot be above 1; remove it."
        )
    if kind == "gaussian" and filler.std <= 0:
        raise NetError(f"the gaussian filler's std {filler.std:g} must be positive.")
    if kind == "uniform" and filler.min > filler.max:
        raise NetError(f"the uniform filler's min {filler.min:g} is above max {filler.max:g}.")


def _gaussian(filler: Message, shape: Shape, rng: np.random.Generator) -> Values:
    values = rng.normal(filler.mean, filler.std, shape)
    if filler.sparse >= 0:
        values *= rng.random(shape) < filler.sparse / shape[0]
    return values


def _positive_unitball(filler: Message, shape: Shape, rng: np.random.Generator) -> Values:
    values = rng.random(shape).reshape(shape[0], -1)
    values /= values.sum(axis=1, keepdims=True)
    return values


def _xavier(filler: Message, shape: Shape, rng: np.random.Generator) -> Values:
    limit = math.sqrt(3.0 / _fan(filler, shape))
    return rng.uniform(-limit, limit, shape)


def _bilinear(filler: Message, shape: Shape, rng: np.random.Generator) -> Values:
    """(1 - |x / f - c|) (1 - |y / f - c|), f = ceil(kernel / 2), c = (kernel - 1) / (2 f).

    As Caffe computes it since October 2017. The release 1.0 has another c, which gives other
    values for the kernels 2, 3, 6, 7, 10, ..; for 2 s - s % 2 (upsampling by s) both agree.
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise UnsupportedLayerError(
            f"the bilinear filler is for square 4-D kernels; this blob is {shape}."
        )
    size = shape[3]
    factor = math.ceil(size / 2.0)
    centre = (size - 1) / (2.0 * factor)
    ramp = 1 - np.abs(np.arange(size) / factor - centre)
    return np.broadcast_to(np.outer(ramp, ramp).astype(np.float32), shape)


def _fan(filler: Message, shape: Shape) -> float:
    count = math.prod(shape)
    fan_in = count / shape[0]
    fan_out = count / shape[1] if len(shape) > 1 else count
    norm = enum_name(filler, "variance_norm")
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]


_FILLERS: Mapping[str, Callable[[Message, Shape, np.random.Generator], Values]] = {
    "constant": lambda f, shape, rng: np.broadcast_to(np.float32(f.value), shape),  # One value.
    "uniform": lambda f, shape, rng: rng.uniform(f.min, f.max, shape),
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": lambda f, shape, rng: rng.normal(0.0, math.sqrt(2.0 / _fan(f, shape)), shape),
    "bilinear": _bilinear,
}
