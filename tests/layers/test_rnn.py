from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from recurrent_oracles import rnn
from refusals import refusal, resolved

from caffe2torch.errors import NetError

N, D, H = 2, 3, 7


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("static", [(), (4,)])
@pytest.mark.parametrize("expose", [False, True])
def test_rnn(steps: int, static: tuple[int, ...], expose: bool) -> None:
    rng = np.random.default_rng(1)
    x, cont = rng.standard_normal((steps, N, D)), rng.uniform(0, 1, (steps, N))
    xs = rng.standard_normal((N, *static)) if static else None
    states = [rng.standard_normal((1, N, H)) * expose]
    sizes = [(H, D), (H,), *([(H, *static)] if static else []), (H, H), (H, H), (H,)]
    blobs = [rng.standard_normal(size) for size in sizes]
    check_layer(
        f'type: "RNN" recurrent_param {{ num_output: {H} expose_hidden: {str(expose).lower()} }}',
        [x, cont, *([xs] if static else []), *(states if expose else [])],
        rnn(x, cont, xs, states, blobs)[: 2 if expose else 1],
        blobs=blobs,
    )


def test_blobs() -> None:
    layer = resolved(
        'type: "RNN" bottom: "x" bottom: "c" top: "y" recurrent_param { num_output: 7 }'
    )
    specs = layer.blob_specs([(5, 2, 3), (5, 2)])
    assert [(s.name, s.shape) for s in specs] == [
        ("weight_x", (7, 3)),
        ("bias", (7,)),
        ("weight_h", (7, 7)),
        ("weight_o", (7, 7)),
        ("bias_o", (7,)),
    ]


def test_refuses_three_bottoms_with_states() -> None:
    error = refusal(
        'type: "RNN" bottom: "x" bottom: "c" top: "y" top: "h" '
        "recurrent_param { num_output: 7 expose_hidden: true }"
    )
    assert isinstance(error, NetError)
    assert "has 2 bottoms; with expose_hidden true it takes 3 or 4" in str(error)
