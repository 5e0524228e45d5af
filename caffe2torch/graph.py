"""The normalised net between reading and lowering: plain data, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from caffe2torch.io.checksum import Checksum
    from caffe2torch.layers._base import Layer

Shape = tuple[int, ...]
Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Input:
    """A blob that the caller feeds: its Caffe name and declared shape."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Node:
    """One layer applied to values. ``params`` maps the layer's own names to graph keys.

    ``key`` is the dotted path of the layer's module (``fire2.squeeze1x1``). Two nodes that
    share a learned blob hold the same graph key for it.
    """

    layer: Layer
    key: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preprocessing:
    """How the net's input is made from an image of 8-bit pixels: (pixel - mean) * scale / std.

    ``mean`` and ``std`` are one number or one a channel, in the order of the input blob
    (Caffe: BGR); empty, they are 0 and 1. Caffe's data layers have no ``std``. ``mean_file``
    names a mean image that the net was trained with and that is not part of the model file.
    """

    crop_size: int | None = None
    mean: tuple[float, ...] = ()
    mean_file: str | None = None
    scale: float = 1.0
    mirror: bool = False
    channel_order: str = "BGR"
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A net in single-assignment form: every value is written once, by one node.

    ``blobs`` maps each Caffe blob name to the value that holds it after the whole net has
    run. The value carries the blob's own name unless an input of that name is changed in
    place; earlier versions of a blob are values named ``blob@layer``. ``outputs`` are
    blob names, in the order in which Caffe reports them.
    """

    name: str
    phase: str
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    blobs: Mapping[str, str]
    shapes: Mapping[str, Shape]
    params: Mapping[str, FloatArray]
    definition: str
    preprocessing: Preprocessing | None = None
    source_sha256: Checksum | None = None
    warnings: tuple[str, ...] = ()
