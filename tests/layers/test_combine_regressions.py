from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error

FACE, HUMAN = "CombineRegressions", "CombineRegressionsHuman"


def layer(module: str) -> str:
    return f'type: "Python" python_param {{ module: "{module}" layer: "CombineRegressionsLayer" }}'


def inputs() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 6, (1, 1, 5, 7)).astype(np.float32) for _ in range(2)]
    labels[1][0, 0, 2] += 0.5  # Of no whole label.
    return [*labels, *(rng.normal(size=(1, 6, 5, 7)).astype(np.float32) for _ in range(2))]


def oracle(labels, remainders, human):
    out = np.zeros(labels.shape)
    for place in np.ndindex(*labels.shape[2:]):
        label = float(labels[0, 0][place])
        whole = label == int(label) and label > 0
        value = float(remainders[0, int(label)][place]) if whole else 0.0
        if human:
            value = min(max(value, 0.0), 1.0)
        else:
            value = (label + value - 1) / (remainders.shape[1] - 1)
            value = -1.0 if value < 0 else value
        out[0, 0][place] = value
    return out


@pytest.mark.parametrize("module", [FACE, HUMAN])
def test_coordinates(module):
    x, y, dx, dy = inputs()
    wanted = [oracle(x, dx, module == HUMAN), oracle(y, dy, module == HUMAN)]
    assert (wanted[0] == (0 if module == HUMAN else -1)).any()
    check_layer(layer(module), [x, y, dx, dy], wanted)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (((2, 1, 5, 7),) * 2 + ((2, 6, 5, 7),) * 2, "are not (1, 1, H, W)"),
        (((1, 1, 5, 7),) * 2 + ((1, 6, 5, 8),) * 2, "(1, 6, 5, 8) is not (1, D, H, W)"),
    ],
)
def test_refusals(shapes, text):
    assert text in str(layer_error(layer(FACE), shapes, tops=2))
