from __future__ import annotations

import numpy as np
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


def test_every_top_is_the_bottom() -> None:
    rng = np.random.default_rng(1)
    x, more = rng.standard_normal((2, 3, 5)), rng.standard_normal((4, 3, 5))
    check_layer('type: "Split"', [x], [x] * 3, batch_inputs=[more], batch_expected=[more] * 3)
    assert resolved('type: "Split" bottom: "x" top: "a" top: "b"').shares_memory


def test_refuses_in_place() -> None:
    error = refusal('type: "Split" bottom: "x" top: "a" top: "x"')
    assert isinstance(error, NetError)
    assert "'x' is both its bottom and its top" in str(error)
