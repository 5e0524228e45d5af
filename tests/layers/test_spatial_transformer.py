from __future__ import annotations

from math import floor

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved


def layer(param: str) -> str:
    return f'type: "SpatialTransformer" st_param {{ {param} }}'


def oracle(x, theta, size):
    """Bilinear samples of ``x`` where the 2 x 3 matrices ``theta`` (N, 2, 3) send the grid."""
    images, channels, height, width = x.shape
    y = np.zeros((images, channels, *size))
    for n, s, t in np.ndindex(images, *size):
        row, column = theta[n] @ [s / size[0] * 2 - 1, t / size[1] * 2 - 1, 1]
        row, column = (row + 1) / 2 * height, (column + 1) / 2 * width
        for i in (floor(row), floor(row) + 1):
            for j in (floor(column), floor(column) + 1):
                if 0 <= i < height and 0 <= j < width:
                    weight = max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
                    y[n, :, s, t] += weight * x[n, :, i, j]
    return y


def random(seed, images=2):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((images, 3, 5, 7))
    return x, np.eye(2, 3) + 0.4 * rng.standard_normal((images, 2, 3))


@pytest.mark.parametrize(
    ("param", "size"),
    [("", (5, 7)), ("output_H: 4 output_W: 9", (4, 9)), ("output_W: 3", (5, 3))],
)
@pytest.mark.parametrize("shape", [(6,), (6, 1, 1)])
def test_samples_where_theta_points(param, size, shape):
    x, theta = random(0)
    check_layer(layer(param), [x, theta.reshape(2, *shape)], [oracle(x, theta, size)])


def test_the_identity_moves_nothing():
    x, _ = random(1)
    theta = np.tile(np.eye(2, 3).ravel(), (2, 1))
    check_layer(layer(""), [x, theta], [x])


def test_fields_give_what_theta_does_not():
    x, theta = random(2)
    theta[:, 0, 1], theta[:, 1, 0] = 0.25, 0
    check_layer(
        layer("theta_1_2: 0.25 theta_2_1: 0"),
        [x, theta.reshape(2, 6)[:, [0, 2, 4, 5]]],
        [oracle(x, theta, (5, 7))],
    )


@pytest.mark.parametrize(("param", "reaches"), [("", True), ("to_compute_dU: false", False)])
def test_the_gradient_of_the_image_can_be_left_out(param, reaches):
    x, theta = (torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in random(3))
    text = f'bottom: "x" bottom: "t" top: "y" {layer(param)}'
    run_layer(resolved(text), [x, theta], {}, training=True).sum().backward()
    assert (x.grad is not None) is reaches
    assert theta.grad is not None


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("", (2, 5), "should have 6 values for each of 2 images"),
        ("theta_1_1: 1", (2, 6), "should have 5 values for each of 2 images"),
        ('transform_type: "tps"', (2, 6), "the fork knows affine only"),
        ("output_H: 0", (2, 6), "it must be positive"),
    ],
)
def test_refusals(param, shape, message):
    assert message in str(layer_error(layer(param), [(2, 3, 5, 7), shape]))
