from __future__ import annotations

import numpy as np
import torch
from harness import check_layer
from refusals import resolved

from caffe2torch.layers._base import Backward


def test_the_sign_is_kept() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    x[0, 0, 0, 0] = 0
    check_layer('type: "SignedSqrt"', [x], [np.sign(x) * np.sqrt(np.abs(x))])


def test_the_gradient_is_bounded_as_in_the_fork() -> None:
    layer = resolved('bottom: "x" top: "y" type: "SignedSqrt"', "TRAIN")
    y = torch.tensor([0.0, -0.47, 1.97])
    (diff,) = layer.gradient(None, Backward([torch.ones(3)], [y], [y], [y], [True], False))
    torch.testing.assert_close(diff, torch.tensor([0.5 / 0.03, 1.0, 0.25]))
