from __future__ import annotations

from refusals import refusal, resolved

from caffe2torch.errors import NetError
from caffe2torch.layers._base import Role


def test_one_shape_serves_all_tops() -> None:
    layer = resolved('type: "Input" top: "a" top: "b" input_param { shape { dim: 2 dim: 3 } }')
    assert layer.role is Role.INPUT
    assert layer.infer_shapes(()) == ((2, 3), (2, 3))


def test_a_shape_for_each_top() -> None:
    shapes = "shape { dim: 2 dim: 3 } shape { dim: 5 } shape { }"
    layer = resolved(f'type: "Input" top: "a" top: "b" top: "c" input_param {{ {shapes} }}')
    assert layer.infer_shapes(()) == ((2, 3), (5,), ())


def test_refuses_a_count_of_shapes_between() -> None:
    error = refusal(
        'type: "Input" top: "a" top: "b" top: "c" input_param { shape { dim: 1 } shape { dim: 2 } }'
    )
    assert isinstance(error, NetError)
    assert "2 shapes for 3 tops" in str(error)


def test_without_a_shape_it_has_none() -> None:
    assert resolved('type: "Input" top: "a"').infer_shapes(()) == ()


def test_refuses_a_negative_size() -> None:
    error = refusal('type: "Input" top: "a" input_param { shape { dim: 2 dim: -3 } }')
    assert isinstance(error, NetError)
    assert "negative size" in str(error)
