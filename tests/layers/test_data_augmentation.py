from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import State
from caffe2torch.pipeline import build_graph

SHAPE = (2, 3, 6, 9)


def layer(fields: str = "") -> str:
    return f'type: "DataAugmentation" augmentation_param {{ {fields} }}'


def cropped(x: Any, size: tuple[int, int]) -> Any:
    """By the loops of the fork's kernel, for the matrix of no change."""
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        at_y = np.clip(i + (height - size[0]) / 2, 0, height - 1.05)
        at_x = np.clip(j + (width - size[1]) / 2, 0, width - 1.05)
        top, left = int(at_y), int(at_x)
        dy, dx = at_y - top, at_x - left
        y[:, :, i, j] = (1 - dy) * ((1 - dx) * x[:, :, top, left] + dx * x[:, :, top, left + 1])
        y[:, :, i, j] += dy * ((1 - dx) * x[:, :, top + 1, left] + dx * x[:, :, top + 1, left + 1])
    return y


@pytest.mark.parametrize("size", [(6, 9), (4, 5), (3, 6)])
def test_the_middle_less_the_mean_of_each_channel(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x, mean = rng.standard_normal(SHAPE), rng.standard_normal((1, 3, 1, 1))
    other_size = rng.standard_normal((1, 3, 2, 2))
    check_layer(
        layer(
            f"crop_height: {size[0]} crop_width: {size[1]} recompute_mean: 1000 "
            "mean_per_pixel: false mirror { prob: 0.5 }"
        ),
        [x],
        [cropped(x, size) - mean],
        [np.full((1, 1, 1, 1), 1000), other_size, mean],
    )


def test_the_mean_of_each_pixel() -> None:
    rng = np.random.default_rng(1)
    x, mean = rng.standard_normal(SHAPE), rng.standard_normal((1, *SHAPE[1:]))
    blobs = [np.full((1, 1, 1, 1), 2000), mean, np.zeros((1, 3, 1, 1))]
    check_layer(layer("recompute_mean: 1000"), [x], [x - mean], blobs)


@pytest.mark.parametrize(
    ("fields", "mean"),
    [("mean_per_pixel: false", (1, 2, 3)), ("", (0, 0, 0)), ("mean_per_pixel: true", (0, 0, 0))],
)
def test_given_values(fields: str, mean: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).standard_normal(SHAPE)
    text = layer(f"mean: 1 mean: 2 mean: 3 {fields}")
    check_layer(text, [x], [x - np.reshape(mean, (1, 3, 1, 1))], [np.ones((1, 1, 1, 1))])


def test_refuses() -> None:
    few = [np.full((1, 1, 1, 1), 10), np.zeros((1, 3, 6, 9)), np.zeros((1, 3, 1, 1))]
    text = layer("recompute_mean: 1000")
    assert "computed in 10 iterations of 1000" in str(layer_error(text, [SHAPE], few))
    assert "cannot be cropped to (7, 3)" in str(
        layer_error(layer("crop_height: 7 crop_width: 3"), [SHAPE])
    )
    error = layer_error(layer("rotate { prob: 1 }"), [SHAPE], phase="TRAIN")
    assert "changed at random" in str(error)
    assert "coefficients" in str(layer_error(layer(), [SHAPE, (2, 30, 1, 1)]))


def test_a_net_without_weights_has_no_mean_yet() -> None:
    text = (
        'input: "x" input_shape { dim: 2 dim: 3 dim: 6 dim: 9 } layer { name: "l" bottom: "x" '
        f'top: "y" {layer("recompute_mean: 1000")} }}'
    )
    graph = build_graph(parse_prototxt(text), None, State("TEST"))
    assert graph.shapes["y"] == SHAPE
