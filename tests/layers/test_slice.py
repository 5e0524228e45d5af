from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


@pytest.mark.parametrize(
    ("param", "axis", "points", "shape"),
    [
        ("", 1, [2, 4], (2, 6, 5, 7)),
        ("slice_point: 1 slice_point: 4", 1, [1, 4], (2, 7, 5)),
        ("axis: 2 slice_point: 3 slice_point: 4", 2, [3, 4], (2, 3, 5, 7)),
        ("axis: -1", 3, [2, 4], (2, 3, 5, 6)),
        ("axis: 0", 0, [1, 2], (3, 2, 5)),
        ("axis: 0 slice_point: 2 slice_point: 3", 0, [2, 3], (5, 2, 3)),
        ("slice_dim: 2", 2, [1, 2], (2, 5, 3)),
    ],
)
def test_three_parts(param: str, axis: int, points: list[int], shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    check_layer(f'type: "Slice" slice_param {{ {param} }}', [x], np.split(x, points, axis))


@pytest.mark.parametrize("param", ["", "slice_point: 1"])
def test_other_batch(param: str) -> None:
    rng = np.random.default_rng(2)
    small, large = rng.standard_normal((2, 6, 5)), rng.standard_normal((4, 6, 5))
    points = [1] if param else [3]
    check_layer(
        f'type: "Slice" slice_param {{ {param} }}',
        [small],
        np.split(small, points, 1),
        batch_inputs=[large],
        batch_expected=np.split(large, points, 1),
    )


def test_other_batch_along_the_batch() -> None:
    # In torch alone: only even batches work, so the ONNX model keeps the declared one.
    rng = np.random.default_rng(3)
    small, large = rng.standard_normal((2, 3)), rng.standard_normal((6, 3))
    check_layer(
        'type: "Slice" slice_param { axis: 0 }',
        [small],
        np.split(small, 2),
        batch_inputs=[large],
        batch_expected=np.split(large, 2),
        onnx=False,
    )


def test_one_top_is_the_bottom_in_shared_memory() -> None:
    x = np.random.default_rng(4).standard_normal((2, 7))
    check_layer('type: "Slice"', [x], [x])
    assert resolved('type: "Slice" bottom: "x" top: "a"').shares_memory
    assert not resolved('type: "Slice" bottom: "x" top: "a" top: "b"').shares_memory


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "axis 1 has 7 entries, which 3 tops cannot share equally"),
        ("slice_point: 2", "1 slice points for 3 tops"),
        ("slice_point: 4 slice_point: 2", "[4, 2] do not increase"),
        ("slice_point: 0 slice_point: 2", "[0, 2] do not increase"),
        ("slice_point: 2 slice_point: 8", "do not cut an axis of 7 entries into 3 parts"),
        ("axis: 0 slice_point: 1 slice_point: 2", "do not cut an axis of 2 entries"),
        ("axis: 3", "slice_param.axis: axis 3 is out of range"),
        ("slice_dim: 3", "slice_param.slice_dim: axis 3 is out of range"),
        ("slice_dim: 1 axis: 1", "both axis and slice_dim"),
    ],
)
def test_refuses(param: str, message: str) -> None:
    fields = f'type: "Slice" bottom: "x" top: "a" top: "b" top: "c" slice_param {{ {param} }}'
    error = refusal(fields, (2, 7, 5))
    assert isinstance(error, NetError)
    assert message in str(error)
