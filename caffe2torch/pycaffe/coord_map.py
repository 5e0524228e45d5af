"""How coordinates of one top lie in another, and the Crop that follows from it (coord_map.py).

A map is (axis, scale, shift): the place ``i`` before a layer is ``i * scale + shift`` after it, on
the axes from ``axis`` on; ``(None, 1, 0)`` changes nothing. Scale and shift are arrays of one
entry for each kernel size that the layer gives, or for all axes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

from caffe2torch.pycaffe.net_spec import Function, Top, layers

Map = tuple[int | None, Any, Any]

PASS_THROUGH_LAYERS = (
    "AbsVal BatchNorm Bias BNLL Dropout Eltwise ELU Log LRN Exp MVN Power ReLU PReLU Scale Sigmoid "
    "Split TanH Threshold"
).split()
"""Types that leave coordinates as they are."""

_BY_AXIS = {"pad_h", "pad_w", "kernel_h", "kernel_w", "stride_h", "stride_w"}


class UndefinedMapException(Exception):  # noqa: N818 - pycaffe's name.
    """A layer's type has no map."""


class AxisMismatchException(Exception):  # noqa: N818 - pycaffe's name.
    """Two maps begin at different axes."""


def conv_params(fn: Function) -> tuple[int, Any, Any, Any]:
    """Axis, stride, extent of the kernel with its dilation, and pad of a layer with windows.

    Raises:
        KeyError: it gives no kernel_size.
        AssertionError: it gives sizes by axis (kernel_h).
    """
    params = fn.params.get("convolution_param", fn.params)
    by_axis = sorted(_BY_AXIS & {*params, *fn.params})
    if "kernel_size" in params and by_axis:
        raise AssertionError(f"{fn.type_name}: coordinates cannot be mapped with {by_axis}")

    def sizes(name: str, default: int) -> Any:
        return np.array(params.get(name, default), ndmin=1)

    kernel = np.array(params["kernel_size"], ndmin=1)
    extent = (kernel - 1) * sizes("dilation", 1) + 1
    return params.get("axis", 1), sizes("stride", 1), extent, sizes("pad", 0)


def crop_params(fn: Function) -> tuple[int, Any]:
    """Axis (2 by default) and offset of a Crop layer."""
    params = fn.params.get("crop_param", fn.params)
    return params.get("axis", 2), np.array(params.get("offset", 0), ndmin=1)


def coord_map(fn: Function) -> Map:
    """The map of a layer. Raises UndefinedMapException if its type has none."""
    if fn.type_name in ("Convolution", "Pooling", "Im2col"):
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if fn.type_name == "Deconvolution":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if fn.type_name in PASS_THROUGH_LAYERS:
        return None, 1, 0
    if fn.type_name == "Crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset  # Crop's axis is the first with coordinates.
    raise UndefinedMapException(f"there is no map of coordinates for a {fn.type_name} layer")


def compose(base_map: Map, next_map: Map) -> Map:
    """The map ``next_map``, then ``base_map``. Raises AxisMismatchException."""
    (axis, scale, shift), (next_axis, next_scale, next_shift) = base_map, next_map
    if axis is None:
        axis = next_axis
    elif next_axis not in (None, axis):
        raise AxisMismatchException(f"one map begins at axis {axis}, the other at {next_axis}")
    return axis, scale * next_scale, scale * next_shift + shift


def inverse(coord_map: Map) -> Map:
    """The map back."""
    axis, scale, shift = coord_map
    return axis, 1 / scale, -shift / scale


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from the coordinates of ``top_from`` to those of ``top_to``.

    It goes over a top that both are computed from. Of a Crop's bottoms, the first alone counts.

    Raises:
        RuntimeError: no layers with maps lead to such a top.
        AxisMismatchException, KeyError, AssertionError: of layers on the way.
    """
    origins = dict(_walk(top_from))
    for top, to_map in _walk(top_to):
        if top in origins:
            return compose(to_map, inverse(origins[top]))
    raise RuntimeError(
        "the two tops are not connected by layers whose coordinates can be mapped; these are "
        f"Convolution, Deconvolution, Pooling, Im2col, Crop, {', '.join(PASS_THROUGH_LAYERS)}"
    )


def _walk(top: Top) -> Iterator[tuple[Top, Map]]:
    """The tops that ``top`` is computed from, the nearest first, each with its map to ``top``."""
    maps: dict[Top, Map] = {top: (None, 1, 0)}
    waiting = deque([top])
    while waiting:
        top = waiting.popleft()
        yield top, maps[top]
        bottoms = top.fn.inputs[:1] if top.fn.type_name == "Crop" else top.fn.inputs
        for bottom in bottoms:
            if bottom not in maps:
                try:
                    maps[bottom] = compose(maps[top], coord_map(top.fn))
                except UndefinedMapException:
                    break
                waiting.append(bottom)


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts ``top_from`` to the size and place of ``top_to``.

    Raises AssertionError if their scales differ, or if the offset is negative or no whole number.
    """
    axis, scale, shift = coord_map_from_to(top_from, top_to)
    if not np.all(scale == 1):
        raise AssertionError(f"the tops have other scales, by {scale}: nothing to cut by")
    offset = np.atleast_1d(-shift)
    if not (offset >= 0).all():
        raise AssertionError(f"the offset {offset} is negative: the top to be cut is too small")
    if not (np.round(offset) == offset).all():
        raise AssertionError(f"the offset {offset} is no whole number: change a pad")
    first = 2 if axis is None else axis + 1  # See coord_map.
    cut: Top = layers.Crop(
        top_from, top_to, crop_param={"axis": first, "offset": [int(o) for o in offset]}
    )
    return cut
