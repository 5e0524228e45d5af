"""Sharing out the bytes of a compressed file among its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe2torch.errors import NetError
from caffe2torch.io.deep_compression import REACH, layer_size

_FINE = 1000
"""Shares that are looked at, from the least that was measured to all."""

_HALVINGS = 100


@dataclass(frozen=True)
class Curve:
    """The error of a layer by the share of its weights that stay.

    ``shares`` descend and lie between 1, where there is no error, and 0.
    """

    name: str
    weights: int
    outputs: int
    shares: Sequence[float]
    errors: Sequence[float]


def share_out(curves: Sequence[Curve], size: int) -> list[int]:
    """The bytes of each layer that keep the sum of the errors least and are ``size`` in all.

    At the optimum a byte saves as much error in one layer as in any other, so one exchange
    rate of errors to bytes decides for all layers; it is found by bisection. Raises NetError
    if not even the smallest shares fit.
    """
    tables = [_table(curve) for curve in curves]
    least = sum(int(table.sizes[0]) for table in tables)
    if size < least:
        raise NetError(
            f"a file of {size:,} bytes is too small for this net: it needs {least:,}, of which "
            f"{sum(fixed_bytes(c.outputs) for c in curves):,} are codebooks and biases"
        )
    low, high = 1e-30, 1e30
    for _ in range(_HALVINGS):
        rate = (low * high) ** 0.5
        if sum(table.best(rate) for table in tables) <= size:
            high = rate
        else:
            low = rate
    return [table.best(high) for table in tables]


def fixed_bytes(outputs: int) -> int:
    """What a layer takes however few weights it keeps."""
    return layer_size(0, outputs)


@dataclass(frozen=True)
class _Table:
    """Sizes of a layer in bytes, which rise, and the errors that go with them."""

    sizes: NDArray[np.int64]
    errors: NDArray[np.float64]

    def best(self, rate: float) -> int:
        """The size of the least error and cost at ``rate`` a byte."""
        return int(self.sizes[np.argmin(self.errors + rate * self.sizes)])


def _table(curve: Curve) -> _Table:
    shares = np.linspace(curve.shares[-1], 1, _FINE)
    weights = np.round(shares * curve.weights)
    # Of weights that stand at random, a share (1 - p)^16 has 16 zeros or more before it.
    bridge = (1 - shares) ** REACH
    fillers = weights * bridge / (1 - bridge)
    sizes = [layer_size(int(n), curve.outputs) for n in weights + fillers]
    return _Table(np.array(sizes, np.int64), _errors(curve, shares))


def _errors(curve: Curve, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The errors at ``shares``, whose last is 1: a power of the share that is removed.

    Between two measurements the power is what leads from one to the other, above the first
    it is 3: of weights that are spread evenly near 0, the least go first.
    """
    removed = np.log(1 - shares[:-1])
    measured = np.log(1 - np.array(curve.shares))
    logs = np.log(np.maximum(curve.errors, np.finfo(np.float64).tiny))
    powers = np.interp(removed, measured, logs) + 3 * np.minimum(removed - measured[0], 0)
    # What makes no difference on the images is still kept where there is room for it.
    slope = 1e-9 * (max(curve.errors) + np.finfo(np.float64).tiny) * (1 - shares)
    errors: NDArray[np.float64] = np.append(np.exp(powers), 0.0) + slope
    return errors
