from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error, run_layer
from refusals import resolved

RNG = np.random.default_rng(0)


def layer(fields: str = "") -> str:
    return f'type: "MergeCrop" mergecrop_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("small", "large"), [((5,), (8,)), ((5, 7), (8, 7)), ((2, 5, 7), (5, 5, 13))]
)
@pytest.mark.parametrize("forward", ["", "forward: true forward: false", "forward: false"])
@pytest.mark.parametrize("stacks", [True, False])
def test_the_middle_of_the_second(
    small: tuple[int, ...], large: tuple[int, ...], forward: str, stacks: bool
) -> None:
    a, b = RNG.normal(size=(2, 3, *small)), RNG.normal(size=(2, 3, *large))
    middle = np.empty_like(a)
    for place in np.ndindex(*small):
        there = tuple(p + (m - n) // 2 for p, n, m in zip(place, small, large, strict=True))
        middle[(..., *place)] = b[(..., *there)]
    first = a * (not forward.startswith("forward: false"))
    middle = middle * (not forward.endswith("forward: false") or forward == "forward: false")
    expected = np.concatenate([first, middle], 1) if stacks else first + middle
    text = layer(f"{'' if stacks else 'operation: ADD'} {forward}")
    check_layer(text, [a, b], [expected])


def test_one_item_may_have_more_channels_in_the_first() -> None:
    a, b = RNG.normal(size=(1, 4, 5, 7)), RNG.normal(size=(1, 2, 9, 8))
    expected = np.concatenate([a, b[:, :, 2:7, :7]], 1)
    check_layer(layer(), [a, b], [expected])
    for shapes in ([(2, 4, 5), (2, 2, 5)], [(1, 4, 5), (1, 3, 5)]):
        assert "of one N and C" in str(layer_error(layer(), shapes))


@pytest.mark.parametrize(
    ("flags", "learn"), [("", (1, 0)), ("backward: false backward: true", (0, 1))]
)
def test_gradients_go_where_the_flags_say(flags: str, learn: tuple[int, int]) -> None:
    node = resolved(layer(flags) + ' bottom: "a" bottom: "b" top: "y"')
    bottoms = [torch.ones(1, 2, 3, 4, requires_grad=True) for _ in range(2)]
    run_layer(node, bottoms, {}, training=True).sum().backward()
    found = [0 if x.grad is None else x.grad.max().item() for x in bottoms]
    assert found == list(learn)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (layer(), [(2, 3, 5), (2, 4, 5)], "of one N and C"),
        (layer(), [(2, 3), (2, 3)], "of one N and C"),
        (layer(), [(2, 3, 5, 7), (2, 3, 5, 6)], "is smaller than (2, 3, 5, 7)"),
        (layer("forward: true " * 3), [(2, 3, 5), (2, 3, 5)], "it has two bottoms"),
    ],
)
def test_refusals(text: str, shapes: list[tuple[int, ...]], message: str) -> None:
    assert message in str(layer_error(text, shapes))
