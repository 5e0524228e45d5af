from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from test_batch_norm import batch_oracle, oracle, per_channel


@pytest.mark.parametrize("shape", [(4, 3, 1, 1), (2, 3, 5, 7)])
@pytest.mark.parametrize(
    ("param", "phase", "by_batch"),
    [("", "TEST", False), ("frozen: true", "TRAIN", False), ("", "TRAIN", True)],
)
def test_statistics_by_phase_and_frozen(shape, param, phase, by_batch):
    rng = np.random.default_rng(7)
    x, mean, var, scale, bias = (rng.uniform(0.5, 2, s) for s in (shape, 3, 3, 3, 3))
    y = batch_oracle(x, 0.01) if by_batch else oracle(x, mean, var, 0.01)
    blobs = [b.reshape(1, 3, 1, 1) for b in (scale, bias, mean, var)]
    check_layer(
        f'type: "CuDNNBatchNorm" cudnn_batch_norm_param {{ eps: 0.01 momentum: 0.95 {param} }}',
        [x],
        [y * per_channel(scale, x) + per_channel(bias, x)],
        blobs=blobs,
        phase=phase,
    )


def test_eps_is_that_of_cudnn_at_least():
    x = np.random.default_rng(8).standard_normal((2, 3, 5, 7)) * 1e-3
    ones, zeros = np.ones((1, 3, 1, 1)), np.zeros((1, 3, 1, 1))
    check_layer(
        'type: "CuDNNBatchNorm" cudnn_batch_norm_param { eps: 0 }',
        [x],
        [oracle(x, np.zeros(3), np.full(3, 1e-6))],
        blobs=[ones, zeros, zeros, ones * 1e-6],
    )
