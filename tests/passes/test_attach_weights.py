"""When a blob of a weight file shape_fits a layer's blob."""

import pytest

from caffe2torch.passes.attach_weights import shape_fits


@pytest.mark.parametrize(
    ("file_shape", "legacy", "target"),
    [
        ((1, 1, 1, 5), True, (5,)),
        ((1, 1, 5, 7), True, (5, 7)),
        ((1, 3, 5, 7), True, (3, 5, 7)),
        ((2, 3, 5, 7), True, (2, 3, 5, 7)),
        ((1, 1, 1, 1), True, ()),
        ((5,), False, (5,)),
        ((), False, ()),
        ((2, 3, 5, 7, 2), False, (2, 3, 5, 7, 2)),
    ],
)
def test_fits(file_shape, legacy, target):
    assert shape_fits(file_shape, legacy, target)


@pytest.mark.parametrize(
    ("file_shape", "legacy", "target"),
    [
        ((5, 1, 1, 1), True, (5,)),
        ((5, 7, 1, 1), True, (5, 7)),
        ((1, 1, 7, 5), True, (5, 7)),
        ((1, 1, 1, 5), True, (1, 1, 1, 1, 5)),
        ((1, 1, 1, 5), False, (5,)),
        ((5,), False, (1, 5)),
        ((2, 3), False, (3, 2)),
    ],
)
def test_does_not_fit(file_shape, legacy, target):
    assert not shape_fits(file_shape, legacy, target)
