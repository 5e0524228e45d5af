from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.lower.eager import module_of

H = 4


def layer(fields: str = "") -> str:
    return f'type: "Lstm" lstm_param {{ num_output: {H} clipping_threshold: 0.1 {fields} }}'


def arrays(columns: int) -> list[Any]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape) for shape in ((4 * H, columns), (4 * H, H), (4 * H,))]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def oracle(x: Any, weight_x: Any, weight_h: Any, bias: Any, flags: Any = None) -> Any:
    """By the loops of the fork: each step, each stream, each output."""
    steps, streams = x.shape[:2]
    y = np.zeros((steps, streams, H))
    cell = np.zeros((streams, H))
    for t in range(steps):
        for n in range(streams):
            gates = weight_x @ x[t, n].ravel() + bias
            goes_on = t and (flags is None or flags[t] != 0)
            if goes_on:
                gates = gates + weight_h @ y[t - 1, n]
            for d in range(H):
                i, f, o, g = (gates[k * H + d] for k in range(4))
                kept = sigmoid(f) * cell[n, d] if goes_on else 0.0
                cell[n, d] = kept + sigmoid(i) * np.tanh(g)
                y[t, n, d] = sigmoid(o) * np.tanh(cell[n, d])
    return y


@pytest.mark.parametrize("shape", [(5, 3, 7), (1, 2, 3), (5, 2, 3, 1, 2)])
def test_steps_streams_and_one_axis_of_inputs(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    blobs = arrays(int(np.prod(shape[2:])))
    check_layer(layer(), [x], [oracle(x, *blobs)], blobs)


def test_rows_of_steps_and_streams() -> None:
    x = np.random.default_rng(2).standard_normal((6, 7))
    blobs = arrays(7)
    y = oracle(x.reshape(3, 2, 7), *blobs).reshape(6, H)
    check_layer(layer("batch_size: 2"), [x], [y], blobs)


@pytest.mark.parametrize("shape", [(6, 7), (6, 1, 7), (6, 1, 3, 2)])
def test_flags_say_where_the_state_goes_on(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).standard_normal(shape)
    flags = np.array([0, 1, 0.5, 0, 1, -1])  # Only 0 matters.
    blobs = arrays(int(np.prod(shape[2:])) if len(shape) > 2 else 7)
    y = oracle(x.reshape(6, 1, -1), *blobs, flags).reshape(*shape[: min(2, len(shape) - 1)], H)
    check_layer(layer(), [x, flags[:, None]], [y], blobs)


def test_a_pass_goes_on_from_the_one_before() -> None:
    x = torch.randn(6, 7, generator=torch.Generator().manual_seed(0))
    text = f'bottom: "x" bottom: "flags" top: "y" {layer()}'
    module = module_of(resolved(text), [(6, 7), (6, 1)])
    for array, value in zip(
        (module.weight_x, module.weight_h, module.bias), arrays(7), strict=True
    ):
        array.data = torch.from_numpy(value).float()
    flags = torch.tensor([0.0, 1, 1, 1, 1, 1])[:, None]
    with torch.no_grad():
        whole = module(x, flags)
        parts = [module(x[:4], flags[:4]), module(x[4:], flags[4:])]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_refuses() -> None:
    error = layer_error(layer(), [(5, 2, 7), (10, 1)])
    assert isinstance(error, UnsupportedLayerError)
    assert "only one stream is converted, not 2" in str(error)
    error = layer_error(layer("batch_size: 5"), [(5, 7), (5, 1)])
    assert "lstm_param.batch_size: with flags as a second bottom only 1" in str(error)
    assert "flags of shape (4, 1) are not (5, 1)" in str(layer_error(layer(), [(5, 7), (4, 1)]))
    assert "lstm_param.num_output: must be positive" in str(
        layer_error('type: "Lstm"', [(5, 1, 7)])
    )
    assert "5 rows are not a multiple of batch_size 2" in str(
        layer_error(layer("batch_size: 2"), [(5, 7)])
    )
