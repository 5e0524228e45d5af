"""Random weights for a net without any: the same ones each time, and of sizes that keep values."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.graph import FloatArray, Graph, Node

SEED = 0
BLOCK = 1_000_003
"""Random numbers that are drawn; a prime, so that no two filters of a net repeat each other."""


def with_random_weights(graph: Graph) -> Graph:
    """``graph`` with He-scaled weights, small biases, and statistics near 0 and 1."""
    block = _block()
    params: dict[str, FloatArray] = {}
    start = 0
    for node in graph.nodes:
        for name, key in node.params.items():
            if key not in params:
                shape = graph.params[key].shape
                size = prod(shape)
                noise = np.resize(block[start : start + min(size, BLOCK)], shape)
                start = (start + size) % BLOCK
                params[key] = np.require(_values(name, noise, node), np.float32, "C")
    return replace(graph, params=params)


@cache
def _block() -> FloatArray:
    """The numbers, twice over: any BLOCK that follow one another begin anew where they end."""
    return np.tile(np.random.default_rng(SEED).standard_normal(BLOCK, np.float32), 2)


def _values(name: str, noise: FloatArray, node: Node) -> npt.NDArray[Any]:
    if name == "scale_factor":
        return np.ones_like(noise)
    if name == "iterations":  # DataAugmentation refuses a mean that is not finished.
        return np.full_like(noise, 1e9)
    # DenseBlock has many of each: weight0, weight1, ...
    scale, centre = 0.1, float(name.startswith("weight"))
    if name.startswith("running_var"):
        noise, scale, centre = np.abs(noise), 0.3, 1.0
    elif noise.ndim > 1:
        scale, centre = float(np.sqrt(2 / max(prod(noise.shape[1:]), 1))), 0.0
    elif name == "weight" and node.layer.type == "PReLU":
        scale, centre = 0.05, 0.25
    return np.asarray(noise * np.float32(scale) + np.float32(centre))
