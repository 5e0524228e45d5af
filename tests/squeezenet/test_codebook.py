from __future__ import annotations

import numpy as np
import pytest

from squeezenet.prune import cluster, nearest


def error(values: np.ndarray, centres: np.ndarray) -> float:
    return float(((values - centres[nearest(values, centres)]) ** 2).sum())


def test_few_values_are_their_own_centres() -> None:
    values = np.float32([0.5, -1.25, 0.5, 3.0])
    centres = cluster(values, 3)
    assert centres.tolist() == [-1.25, 0.5, 3.0]
    assert centres[nearest(values, centres)].tolist() == values.tolist()
    assert cluster(np.float32([]), 255).tolist() == []


def test_clear_clusters_are_found() -> None:
    rng = np.random.default_rng(0)
    true = np.array([-3.0, -1.0, 0.5, 4.0])
    values = np.repeat(true, 50) + rng.uniform(-0.1, 0.1, 200)
    np.testing.assert_allclose(cluster(values, 4), true, atol=0.05)


@pytest.mark.parametrize("count", [2, 16, 255])
def test_centres_are_a_fixed_point_and_better_than_an_even_grid(count: int) -> None:
    values = np.random.default_rng(count).standard_normal(3000)
    centres = cluster(values, count)
    assert len(centres) <= count
    assert (np.diff(centres) > 0).all()
    places = nearest(values, centres)
    for index, centre in enumerate(centres):
        assert abs(values[places == index].mean() - centre) < 0.02
    even = np.linspace(values.min(), values.max(), count).astype(np.float32)
    assert error(values, centres) < 0.9 * error(values, even)


def test_nearest() -> None:
    values = np.random.default_rng(1).standard_normal((40, 5))
    centres = np.float32([-1, -0.25, 0, 2])
    expected = np.abs(values[..., None] - centres).argmin(-1)
    np.testing.assert_array_equal(nearest(values, centres), expected)
