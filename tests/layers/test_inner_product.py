from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import refusal, resolved
from torch import nn

from caffe2torch.errors import NetError
from caffe2torch.lower.eager import module_of


def oracle(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | float, axis: int) -> np.ndarray:
    rows = x.reshape(-1, weight.shape[1])
    y = np.array([[np.sum(row * w) for w in weight] for row in rows]) + bias
    return y.reshape(*x.shape[:axis], len(weight))


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("bias_term", [False, True])
@pytest.mark.parametrize(
    ("axis", "shape"),
    [(1, (2, 7)), (1, (2, 3, 5, 7)), (2, (2, 3, 5, 7)), (-1, (2, 3, 5)), (0, (3, 5)), (0, (7,))],
)
def test_product(transpose: bool, bias_term: bool, axis: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    start = axis % len(shape)
    x = rng.standard_normal(shape)
    weight = rng.standard_normal((4, int(np.prod(shape[start:]))))
    bias = rng.standard_normal(4)
    stored = [weight.T if transpose else weight] + ([bias] if bias_term else [])
    flags = f"transpose: {str(transpose).lower()} bias_term: {str(bias_term).lower()}"
    check_layer(
        f'type: "InnerProduct" inner_product_param {{ num_output: 4 axis: {axis} {flags} }}',
        [x],
        [oracle(x, weight, bias if bias_term else 0, start)],
        blobs=stored,
    )


@pytest.mark.parametrize(("axis", "rest"), [(1, (3, 5)), (2, (3, 5)), (1, (7,))])
def test_other_batch(axis: int, rest: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    small, large = rng.standard_normal((2, *rest)), rng.standard_normal((4, *rest))
    weight = rng.standard_normal((4, int(np.prod(rest[axis - 1 :]))))
    bias = rng.standard_normal(4)
    check_layer(
        f'type: "InnerProduct" inner_product_param {{ num_output: 4 axis: {axis} }}',
        [small],
        [oracle(small, weight, bias, axis)],
        blobs=[weight, bias],
        batch_inputs=[large],
        batch_expected=[oracle(large, weight, bias, axis)],
    )


def test_is_a_linear_module_with_the_axes_flattened_before_it() -> None:
    layer = resolved(
        'type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 }'
    )
    for shape in ((2, 7), (2, 7, 3)):
        module = module_of(layer, [shape])
        assert isinstance(module, nn.Linear)
        assert module.in_features == math.prod(shape[1:])
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        params = {name: torch.ones(array.shape) for name, array in module.named_parameters()}
        expected = x.flatten(1).sum(1, keepdim=True).expand(2, 4) + 1
        torch.testing.assert_close(run_layer(layer, [x], params, training=False), expected)


def test_weights_without_a_filler_must_be_given() -> None:
    fields = 'type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 %s }'
    weight, bias = resolved(fields % "").blob_specs([(2, 7)])
    assert (weight.shape, weight.given, bias.shape, bias.given) == ((4, 7), False, (4,), True)
    filled = resolved(fields % 'transpose: true weight_filler { type: "xavier" }')
    assert [(s.shape, s.given) for s in filled.blob_specs([(2, 7)])] == [
        ((7, 4), True),
        ((4,), True),
    ]


def test_counts_multiply_adds() -> None:
    layer = resolved(
        'type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4 axis: 2 }'
    )
    assert layer.multiply_adds([(2, 3, 5)], [(2, 3, 4)]) == 2 * 3 * 5 * 4


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "num_output: must be positive"),
        ("num_output: 4 axis: 2", "axis 2 is out of range for a blob of 2 axes"),
    ],
)
def test_refuses(param: str, message: str) -> None:
    error = refusal(
        f'type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ {param} }}', (2, 3)
    )
    assert isinstance(error, NetError)
    assert message in str(error)


@pytest.mark.parametrize("axis", [1, 2])
def test_normalized_rows(axis: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(2, 3, 5))
    weight, bias = 0.01 * rng.normal(size=(4, 15 if axis == 1 else 5)), rng.normal(size=4)
    rows = weight / np.sqrt((weight**2).sum(axis=1, keepdims=True) + 1e-6)
    flat = x.reshape(2, 15) if axis == 1 else x
    fields = f"num_output: 4 axis: {axis} normalize: true"
    text = f'type: "InnerProduct" inner_product_param {{ {fields} }}'
    check_layer(text, [x], [flat @ rows.T + bias], blobs=[weight, bias])


def test_what_normalize_cannot_be_with_is_refused() -> None:
    text = 'type: "InnerProduct" inner_product_param { num_output: 4 normalize: true %s }'
    error = layer_error(text % "transpose: true", [(2, 3)])
    assert "normalize: true has no conversion of a transposed weight" in str(error)
    error = layer_error(text % "", [(2, 3)], phase="TRAIN")
    assert "normalize: true has no conversion in phase TRAIN" in str(error)
