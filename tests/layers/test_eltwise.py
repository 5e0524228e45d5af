from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


def blobs(count: int, batch: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.standard_normal((batch, 3, 5, 7)) for _ in range(count)]


def oracle(operation: str, coeff: list[float], xs: list[np.ndarray]) -> np.ndarray:
    if operation == "PROD":
        return np.prod(xs, axis=0)
    if operation == "MAX":
        return np.max(xs, axis=0)
    return np.sum([c * x for c, x in zip(coeff or [1] * len(xs), xs, strict=True)], axis=0)


@pytest.mark.parametrize(
    ("operation", "coeff", "count"),
    [
        ("SUM", [], 2),
        ("SUM", [1, -1], 2),
        ("SUM", [0.5, 1, -2.25], 3),
        ("SUM", [0, 3, 1, 1], 4),
        ("PROD", [], 2),
        ("PROD", [], 4),
        ("MAX", [], 2),
        ("MAX", [3, -2, 5], 3),
    ],
)
def test_operation(operation: str, coeff: list[float], count: int) -> None:
    fields = "".join(f"coeff: {c} " for c in coeff)
    small, large = blobs(count), blobs(count, batch=4)
    check_layer(
        f'type: "Eltwise" eltwise_param {{ operation: {operation} {fields} }}',
        small,
        [oracle(operation, coeff, small)],
        batch_inputs=large,
        batch_expected=[oracle(operation, coeff, large)],
    )


def test_the_default_is_a_sum_on_any_shape() -> None:
    check_layer('type: "Eltwise"', [np.array(2.5), np.array(-4.0)], [np.array(-1.5)])


def test_gradient_of_a_tied_maximum_goes_to_one_bottom() -> None:
    layer = resolved(
        'type: "Eltwise" bottom: "a" bottom: "b" bottom: "c" top: "y" '
        "eltwise_param { operation: MAX }"
    )
    a, b, c = (torch.tensor(v, requires_grad=True) for v in ([1.0, 0.0], [1.0, 2.0], [0.0, 2.0]))
    run_layer(layer, [a, b, c], {}, training=True).sum().backward()
    grads = [x.grad.tolist() for x in (a, b, c)]
    assert grads == [[0, 0], [1, 1], [0, 0]]


def test_refuses_unequal_shapes() -> None:
    error = refusal('type: "Eltwise" bottom: "a" bottom: "b" top: "y"', (2, 3, 5), (2, 3, 1))
    assert isinstance(error, NetError)
    assert "bottom 1 has shape (2, 3, 1); Eltwise does not broadcast" in str(error)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("coeff: 1", "1 coefficients for 2 bottoms"),
        ("operation: MAX coeff: 1 coeff: 2 coeff: 3", "3 coefficients for 2 bottoms"),
        ("operation: PROD coeff: 1 coeff: 2", "coefficients are for SUM, not for PROD"),
    ],
)
def test_refuses_coefficients(param: str, message: str) -> None:
    error = refusal(f'type: "Eltwise" bottom: "a" bottom: "b" top: "y" eltwise_param {{ {param} }}')
    assert isinstance(error, NetError)
    assert message in str(error)


def test_one_bottom_is_scaled_as_in_flownet() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    for coeff in (0.25, 1.0):
        text = f'type: "Eltwise" eltwise_param {{ operation: SUM coeff: {coeff} }}'
        check_layer(text, [x], [coeff * x])
    for fields in ("", "operation: PROD", "operation: MAX coeff: 2"):
        error = layer_error(f'type: "Eltwise" eltwise_param {{ {fields} }}', [(2, 3)])
        assert "takes at least 2, or 1 with a coeff" in str(error)
