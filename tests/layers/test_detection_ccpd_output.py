from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error

LAYER = 'type: "DetectionCcpdOutput" lp_det_param { num_chinese: 5 num_english: 4 num_letter: 3 }'
COUNTS = (5, 4, 3, 3, 3, 3, 3)


def scores(seed: int, items: int) -> list[np.ndarray]:
    """Few different ones, so that some are equal, and none above 0 in the first item."""
    rng = np.random.default_rng(seed)
    found = [rng.integers(-2, 3, size=(items, count)).astype(np.float32) for count in COUNTS]
    return [np.where(np.arange(items)[:, None] == 0, -np.abs(x) - 0.5, x) for x in found]


def expected(bottoms: list[np.ndarray]) -> np.ndarray:
    rows = []
    for item in range(len(bottoms[0])):
        row = []
        for x in bottoms:
            best, highest = 0, 0.0
            for index, value in enumerate(x[item].ravel()):
                if highest < value:
                    best, highest = index, value
            row.append(best)
        rows.append(row)
    return np.array(rows, np.float32)[None, None]


def test_the_best_class_of_each_bottom() -> None:
    few, many = scores(0, 4), scores(1, 7)
    few[1] = few[1][:, :, None, None]
    many[1] = many[1][:, :, None, None]
    check_layer(
        LAYER, few, [expected(few)], batch_inputs=many, batch_expected=[expected(many)], rtol_peak=0
    )
    assert not expected(few)[0, 0, 0].any()


def test_the_numbers_are_those_of_the_bottoms() -> None:
    shapes = [(2, count) for count in COUNTS]
    error = layer_error(LAYER, [*shapes[:6], (2, 4)])
    assert "a bottom's shape (2, 4) is not (2, 3), as lp_det_param says" in str(error)
    error = layer_error('type: "DetectionCcpdOutput" lp_det_param { num_chinese: 5 }', shapes)
    assert "lp_det_param.num_english: it is not given" in str(error)
