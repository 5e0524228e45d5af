from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError

SHAPE = (2, 3, 5, 7)


@pytest.mark.parametrize(
    ("param", "axis", "count"),
    [
        ("", 1, 1),
        ("axis: -2", 2, 1),
        ("num_axes: -1", 1, 3),
        ("num_axes: 0", 1, 0),
        ("axis: 2 num_axes: 2", 2, 2),
    ],
)
@pytest.mark.parametrize("learned", [False, True])
def test_sum(param: str, axis: int, count: int, learned: bool) -> None:
    rng = np.random.default_rng(1)
    x, bias = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE[axis : axis + count])
    check_layer(
        f'type: "Bias" bias_param {{ {param} }}',
        [x] if learned else [x, bias],
        [x + bias.reshape(bias.shape + (1,) * (4 - axis - count))],
        blobs=[bias] if learned else [],
    )


def test_second_bottom_for_each_image() -> None:
    rng = np.random.default_rng(2)
    small, large = ([rng.standard_normal((n, 3, 5)), rng.standard_normal((n, 3))] for n in (2, 4))
    check_layer(
        'type: "Bias" bias_param { axis: 0 }',
        small,
        [small[0] + small[1][..., None]],
        batch_inputs=large,
        batch_expected=[large[0] + large[1][..., None]],
    )


def test_filler() -> None:
    (spec,) = resolved('type: "Bias" bottom: "x" top: "y"').blob_specs([SHAPE])
    assert (spec.name, spec.shape, spec.filler.value, spec.given) == ("bias", (3,), 0, True)


def test_refuses_an_operand_that_does_not_fit() -> None:
    error = refusal('type: "Bias" bottom: "x" bottom: "b" top: "y"', SHAPE, (3, 7))
    assert isinstance(error, NetError)
    assert "the second bottom has the shape (3, 7)" in str(error)
