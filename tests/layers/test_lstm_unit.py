from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from recurrent_oracles import lstm_step
from refusals import refusal

from caffe2torch.errors import NetError


def test_step() -> None:
    rng = np.random.default_rng(1)
    cell, gates = rng.standard_normal((1, 3, 5)), rng.standard_normal((1, 3, 20))
    cont = np.array([[0, 1, 0.5]])
    new, hidden = lstm_step(cell[0], gates[0], cont[0][:, None])
    check_layer('type: "LSTMUnit"', [cell, gates, cont], [new[None], hidden[None]])


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ([(2, 3, 5), (2, 3, 20), (2, 3)], "the cell state of shape (2, 3, 5)"),
        ([(1, 3, 5), (1, 3, 15), (1, 3)], "needs gates of (1, 3, 20)"),
        ([(1, 3, 5), (1, 3, 20), (1, 3, 1)], "and cont of (1, 3)"),
    ],
)
def test_refuses(shapes: list[tuple[int, ...]], text: str) -> None:
    bottoms = 'bottom: "c" bottom: "g" bottom: "k"'
    error = refusal(f'type: "LSTMUnit" {bottoms} top: "a" top: "b"', *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
