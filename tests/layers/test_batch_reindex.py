from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize("rest", [(), (3,), (3, 5, 7)])
def test_picks_items(rest: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal((4, *rest))
    index = [3, 0, 0, 2, 1, 3.0]
    check_layer(
        'type: "BatchReindex"', [x, np.array(index)], [np.stack([x[int(i)] for i in index])]
    )


@pytest.mark.parametrize("shapes", [[(4, 3), (6, 1)], [(), (6,)]])
def test_refuses(shapes: list[tuple[int, ...]]) -> None:
    error = refusal('type: "BatchReindex" bottom: "x" bottom: "i" top: "y"', *shapes)
    assert isinstance(error, NetError)
    assert "they must be (N, ..) and (M)" in str(error)
