from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize(("low", "high"), [(0, 6), (-1.5, 0.25), (2, 2), (1, -1)])
def test_limits_with_the_lower_one_winning(low: float, high: float) -> None:
    check_elementwise(
        f'type: "Clip" clip_param {{ min: {low} max: {high} }}',
        lambda x: np.maximum(low, np.minimum(high, x)),
        high=9,
    )


def test_refuses_a_missing_limit() -> None:
    error = refusal('type: "Clip" bottom: "x" top: "y" clip_param { min: 0 }')
    assert isinstance(error, NetError)
    assert "clip_param.max: it is required" in str(error)
