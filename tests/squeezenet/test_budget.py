from __future__ import annotations

import pytest

from caffe2torch.errors import NetError
from squeezenet.prune import Curve, fixed_bytes, share_out

SHARES = (0.5, 0.1)


def curve(name: str, factor: float, weights: int = 10_000) -> Curve:
    return Curve(name, weights, 10, SHARES, (factor, 20 * factor))


def test_the_budgets_fill_the_size() -> None:
    budgets = share_out([curve("a", 1), curve("b", 1)], 20_000)
    assert 19_800 < sum(budgets) <= 20_000
    assert budgets[0] == pytest.approx(budgets[1], rel=0.02)


def test_a_layer_that_matters_more_gets_more() -> None:
    meek, proud = share_out([curve("a", 1), curve("b", 100)], 20_000)
    assert proud > meek + 3000
    assert meek + proud <= 20_000


def test_all_weights_stay_where_there_is_room() -> None:
    assert share_out([curve("a", 1)], 1_000_000) == [fixed_bytes(10) + 15_000]


def test_too_small_a_size_names_the_least() -> None:
    with pytest.raises(NetError, match=r"3,000 bytes is too small.*of which 2,136 are"):
        share_out([curve("a", 1), curve("b", 1)], 3000)
