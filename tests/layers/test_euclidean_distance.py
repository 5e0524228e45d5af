from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


@pytest.mark.parametrize("shape", [(4, 6), (4, 8, 1, 1)])
def test_is_the_mean_distance_of_points(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, *shape))
    apart = (a - b).reshape(4, -1)
    lengths = [np.linalg.norm(apart[n, i : i + 3]) for n in range(4) for i in (0, 3)]
    more = [np.concatenate([x, x[:1]]) for x in (a, b)]
    check_layer(
        'type: "EuclideanDistance"',
        [a, b],
        [np.full((1, 1, 1, 1), np.mean(lengths))],
        batch_inputs=more,
        batch_expected=[np.full((1, 1, 1, 1), np.mean([*lengths, *lengths[:2]]))],
    )


def test_other_shapes_are_refused() -> None:
    for shapes in ([(2, 3), (2, 6)], [(2, 2), (2, 2)], [(2, 3, 5, 7), (2, 3, 5, 7)]):
        assert "are not both (N, C, 1, 1)" in str(layer_error('type: "EuclideanDistance"', shapes))
