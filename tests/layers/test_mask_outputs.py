from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error

FIELDS = 'type: "MaskOutputs" mask_outputs_param { kernel_size: 3 }'


@pytest.mark.parametrize("sizes", [(), (5, 7)])
@pytest.mark.parametrize("axes", [(), (1, 1, 1)])
def test_the_channels_of_the_class_are_kept(sizes: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((4, 12, *sizes))
    classes = np.array([2, 0, 3, 1])
    y = np.stack([x[n, 3 * c : 3 * c + 3] for n, c in enumerate(classes)])
    check_layer(FIELDS, [x, classes.reshape(4, *axes)], [y.reshape(4, 3, *(sizes or (1, 1)))])


def test_refuses() -> None:
    assert "C a multiple of kernel_size 3" in str(layer_error(FIELDS, [(2, 8), (2,)]))
    assert "must be positive" in str(layer_error('type: "MaskOutputs"', [(2, 8), (2,)]))
