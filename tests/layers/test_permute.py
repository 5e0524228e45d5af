from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


@pytest.mark.parametrize(
    ("order", "axes"),
    [
        ((0, 2, 3, 1), (0, 2, 3, 1)),
        ((3, 0), (3, 0, 1, 2)),
        ((2,), (2, 0, 1, 3)),
        ((), (0, 1, 2, 3)),
        ((1, 0, 2, 3), (1, 0, 2, 3)),
    ],
)
def test_order_is_completed(order: tuple[int, ...], axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    fields = "".join(f"order: {axis} " for axis in order)
    check_layer(f'type: "Permute" permute_param {{ {fields} }}', [x], [x.transpose(axes)])


def test_other_batch_in_3d() -> None:
    rng = np.random.default_rng(2)
    small, large = rng.standard_normal((2, 3, 5)), rng.standard_normal((4, 3, 5))
    check_layer(
        'type: "Permute" permute_param { order: 0 order: 2 order: 1 }',
        [small],
        [small.transpose(0, 2, 1)],
        batch_inputs=[large],
        batch_expected=[large.transpose(0, 2, 1)],
    )


def test_the_identity_shares_memory() -> None:
    fields = 'type: "Permute" bottom: "x" top: "y" permute_param { order: 0 order: %d }'
    assert resolved(fields % 1).shares_memory
    assert not resolved(fields % 2).shares_memory


@pytest.mark.parametrize(
    ("order", "message"),
    [("order: 1 order: 1", "[1, 1] names an axis more than once"), ("order: 3", "axis 3 is out")],
)
def test_refuses(order: str, message: str) -> None:
    error = refusal(f'type: "Permute" bottom: "x" top: "y" permute_param {{ {order} }}', (2, 3, 5))
    assert isinstance(error, NetError)
    assert message in str(error)
