from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_numbers_move_towards_zero() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    x[0, 0, 0, :3] = 0.5, -0.5, 0
    expected = np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, 0))
    check_layer('type: "Sparsify" sparsify_param { thre: 0.5 coef: 2 }', [x], [expected])


def test_no_threshold_changes_nothing() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3))
    check_layer('type: "Sparsify" sparsify_param { coef: 2 }', [x], [x])


def test_negative_numbers_are_refused() -> None:
    for name in ("thre", "coef"):
        error = layer_error(f'type: "Sparsify" sparsify_param {{ {name}: -1 }}', [(2, 3)])
        assert f"sparsify_param.{name}: must not be negative" in str(error)
