from __future__ import annotations

import numpy as np
from elementwise import check_elementwise
from refusals import refusal

from caffe2torch.errors import NetError


def test_absolute_value() -> None:
    check_elementwise('type: "AbsVal"', np.abs)


def test_refuses_in_place() -> None:
    error = refusal('type: "AbsVal" bottom: "x" top: "x"')
    assert isinstance(error, NetError)
    assert "does not allow in-place computation" in str(error)
