from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


@pytest.mark.parametrize(("low", "high"), [(5, 10), (3, 8), (-4, 2)])
def test_negative_numbers_are_divided_by_the_mean_slope(low: float, high: float) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    mean = (high - low) / (np.log(abs(high)) - np.log(abs(low)))
    expected = np.maximum(x, 0) + np.minimum(x, 0) / mean
    check_layer(f'type: "Insanity" insanity_param {{ lb: {low} ub: {high} }}', [x], [expected])


def test_defaults_are_5_and_10() -> None:
    x = np.array([[-1.0, 2.0]])
    check_layer('type: "Insanity"', [x], [[[-np.log(2) / 5, 2]]])


@pytest.mark.parametrize("fields", ["lb: 10 ub: 5", "lb: 0 ub: 5", "lb: -2 ub: 2"])
def test_bounds_without_a_mean_are_refused(fields: str) -> None:
    error = layer_error(f'type: "Insanity" insanity_param {{ {fields} }}', [(2, 3)])
    assert "must rise, and neither be 0" in str(error)


def test_other_refusals() -> None:
    assert "draws at random" in str(layer_error('type: "Insanity"', [(2, 3)], phase="TRAIN"))
    assert "fewer than two axes" in str(layer_error('type: "Insanity"', [(3,)]))
