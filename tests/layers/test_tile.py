from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize(("axis", "tiles"), [(0, 2), (1, 3), (2, 2), (-1, 4), (1, 1)])
def test_axis(axis: int, tiles: int) -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 5, 7))
    check_layer(
        f'type: "Tile" tile_param {{ axis: {axis} tiles: {tiles} }}',
        [small],
        [np.concatenate([small] * tiles, axis)],
        batch_inputs=[large],
        batch_expected=[np.concatenate([large] * tiles, axis)],
    )


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "give a positive number of tiles"),
        ("tiles: 0", "give a positive number of tiles"),
        ("tiles: 2 axis: 2", "axis 2 is out of range for a blob of 2 axes"),
    ],
)
def test_refuses(param: str, message: str) -> None:
    error = refusal(f'type: "Tile" bottom: "x" top: "y" tile_param {{ {param} }}', (2, 3))
    assert isinstance(error, NetError)
    assert message in str(error)
