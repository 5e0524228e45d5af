from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError

ONE = 'type: "Filter" bottom: "x" bottom: "s" top: "y"'


@pytest.mark.parametrize("selector", [[0, 1, 0, -2.5, 1], [1] * 5, [0] * 5])
@pytest.mark.parametrize("ones", [(), (1, 1)])
def test_keeps_what_is_not_zero(selector: list[float], ones: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((5, 3, 2)), rng.standard_normal((5,))]
    chosen = [n for n, s in enumerate(selector) if s != 0]
    check_layer(
        'type: "Filter"',
        [*xs, np.array(selector).reshape(5, *ones)],
        [x[chosen] for x in xs],
    )


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        (f'{ONE} top: "z"', [(5, 3), (5,)], "2 tops for 2 bottoms"),
        (ONE, [(5, 3), (5, 2)], "the selector has shape (5, 2)"),
        (ONE, [(5, 3), ()], "the selector has shape ()"),
        (ONE, [(3, 5), (5,)], "bottom 0 of shape (3, 5) does not have the selector's 5 items"),
    ],
)
def test_refuses(fields: str, shapes: list[tuple[int, ...]], message: str) -> None:
    error = refusal(fields, *shapes)
    assert isinstance(error, NetError)
    assert message in str(error)
