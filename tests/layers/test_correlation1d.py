from __future__ import annotations

import pytest
from correlation_oracle import layer, oracle, two
from harness import check_layer, layer_error


@pytest.mark.parametrize(("direction", "steps"), [(0, range(-2, 3)), (1, range(3))])
@pytest.mark.parametrize("kernel", [1, 3])
def test_along_rows_only(direction: int, steps: range, kernel: int) -> None:
    text = layer(
        f"pad: 5 kernel_size: {kernel} max_displacement: 5 stride_2: 2 "
        f"single_direction: {direction}",
        "Correlation1D",
    )
    a, b = two()
    expected = oracle(a, b, (0, 5), (0, 5), [(0, 2 * k) for k in steps], kernel)
    check_layer(text, [a, b], [expected])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kernel_size: 1 max_displacement: 1 single_direction: 2", "-1, 0 or 1"),
        ("kernel_size: 1 max_displacement: 1 single_direction: -1", "other rows"),
    ],
)
def test_refuses(fields: str, message: str) -> None:
    assert message in str(layer_error(layer(fields, "Correlation1D"), [(2, 3, 9, 11)] * 2))
