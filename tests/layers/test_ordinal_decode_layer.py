from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error

FIELDS = """type: "Python" python_param { module: "ordinal_decode_layer"
    layer: "OrdinalDecodeLayer" }"""


@pytest.mark.parametrize("channels", [2, 7, 8])
def test_counts_what_is_exceeded(channels: int) -> None:
    x = np.random.default_rng(0).integers(-2, 3, (2, channels, 5, 7))
    y = sum(x[:, 2 * k : 2 * k + 2].argmax(1) for k in range(channels // 2))
    check_layer(FIELDS, [x], [np.asarray(y)[:, None]])


def test_one_channel_is_refused() -> None:
    assert "has no two channels" in str(layer_error(FIELDS, [(2, 1, 5, 7)]))
