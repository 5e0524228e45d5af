from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from recurrent_oracles import lstm
from refusals import refusal, resolved

from caffe2torch.errors import NetError

T, N, D, H = 5, 2, 3, 7


@pytest.mark.parametrize("steps", [1, T])
@pytest.mark.parametrize("trailing", [(D,), (D, 2)])
@pytest.mark.parametrize("static", [(), (4,), (2, 4)])
@pytest.mark.parametrize("expose", [False, True])
def test_lstm(steps: int, trailing: tuple[int, ...], static: tuple[int, ...], expose: bool) -> None:
    rng = np.random.default_rng(1)
    x, cont = rng.standard_normal((steps, N, *trailing)), rng.uniform(0, 1, (steps, N))
    cont[0, 0], cont[-1, 1] = 1, 0
    xs = rng.standard_normal((N, *static)) if static else None
    states = [rng.standard_normal((1, N, H)) * expose for _ in range(2)]
    sizes = [
        (4 * H, x[0, 0].size),
        (4 * H,),
        *([(4 * H, xs[0].size)] if static else []),
        (4 * H, H),
    ]
    blobs = [rng.standard_normal(size) for size in sizes]
    check_layer(
        f'type: "LSTM" recurrent_param {{ num_output: {H} expose_hidden: {str(expose).lower()} }}',
        [x, cont, *([xs] if static else []), *(states if expose else [])],
        lstm(x, cont, xs, states, blobs)[: 3 if expose else 1],
        blobs=blobs,
    )


def test_blobs() -> None:
    layer = resolved(
        'type: "LSTM" bottom: "x" bottom: "c" bottom: "s" top: "y" recurrent_param '
        '{ num_output: 7 weight_filler { type: "uniform" } bias_filler { value: 2 } }'
    )
    specs = layer.blob_specs([(5, 2, 3), (5, 2), (2, 4)])
    assert [(s.name, s.shape) for s in specs] == [
        ("weight_x", (28, 3)),
        ("bias", (28,)),
        ("weight_static", (28, 4)),
        ("weight_h", (28, 7)),
    ]
    assert [s.filler.type for s in specs] == ["uniform", "constant", "uniform", "uniform"]
    assert layer.multiply_adds([(5, 2, 3), (5, 2), (2, 4)], [(5, 2, 7)]) == 2 * 28 * (
        5 * 3 + 4 + 5 * 7
    )


PARAM = "recurrent_param { num_output: 7 }"


@pytest.mark.parametrize(
    ("param", "bottoms", "shapes", "text"),
    [
        ("", 2, [], "recurrent_param.num_output: must be positive"),
        ("recurrent_param { num_output: 7 expose_hidden: true }", 2, [], "it takes 4 or 5"),
        (PARAM, 4, [], "has 4 bottoms; with expose_hidden false it takes 2 or 3"),
        (PARAM, 2, [(5, 2), (5, 2)], "x of shape (5, 2) must have the axes (T, N, D..)"),
        (PARAM, 2, [(5, 2, 3), (2, 5)], "cont has the shape (2, 5); x of shape (5, 2, 3) needs"),
        (PARAM, 3, [(5, 2, 3), (5, 2), (3, 4)], "a static input of shape (3, 4)"),
        (PARAM, 3, [(5, 2, 3), (5, 2), (2,)], "a static input of shape (2,)"),
    ],
)
def test_refuses(param: str, bottoms: int, shapes: list[tuple[int, ...]], text: str) -> None:
    names = " ".join(f'bottom: "b{i}"' for i in range(bottoms))
    error = refusal(f'type: "LSTM" {names} top: "y" {param}', *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)


def test_refuses_states_and_tops() -> None:
    names = " ".join(f'bottom: "b{i}"' for i in range(4))
    param = "recurrent_param { num_output: 7 expose_hidden: true }"
    tops = 'top: "y" top: "h" top: "c"'
    error = refusal(f'type: "LSTM" {names} {tops} {param}', (5, 2, 3), (5, 2), (1, 2, 7), (2, 7))
    assert "must have the shape (1, 2, 7)" in str(error)
    error = refusal(f'type: "LSTM" {names} top: "y" {param}')
    assert "has 1 tops; with expose_hidden true it has 3" in str(error)


def test_no_gradient_flows_through_exposed_states() -> None:
    bottoms = " ".join(f'bottom: "b{i}"' for i in range(4))
    layer = resolved(
        f'type: "LSTM" {bottoms} top: "y" top: "h" top: "c" '
        f"recurrent_param {{ num_output: {H} expose_hidden: true }}"
    )
    rng = torch.Generator().manual_seed(1)
    shapes = [(T, N, D), (T, N), (1, N, H), (1, N, H)]
    x, cont, h, c = (torch.rand(s, generator=rng, requires_grad=True) for s in shapes)
    specs = layer.blob_specs(shapes)
    params = {s.name: torch.rand(s.shape, generator=rng) for s in specs}
    y, *last = run_layer(layer, [x, cont.detach(), h, c], params, training=True)
    sum(state.sum() for state in last).backward(retain_graph=True)
    assert not any(leaf.grad.any() for leaf in (x, h, c))
    y[0].sum().backward()
    assert x.grad.any()
    assert not any(leaf.grad.any() for leaf in (h, c))
