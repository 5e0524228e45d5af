from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import enum_value
from caffe2torch.lower.eager import module_of
from caffe2torch.passes.resolve import resolve_layer

HALF = 'type: "Dropout" bottom: "x" top: "y"'


def test_is_the_identity_at_inference() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    check_layer('type: "Dropout" dropout_param { dropout_ratio: 0.75 }', [x], [x])


def test_training_scales_what_it_keeps() -> None:
    torch.manual_seed(0)
    module = module_of(resolved(f"{HALF} dropout_param {{ dropout_ratio: 0.75 }}", "TRAIN"), [])
    y = module.train()(torch.ones(200, 500))
    assert sorted(y.unique().tolist()) == [0, 4]
    assert abs((y > 0).float().mean().item() - 0.25) < 0.01


def test_random_dropout_has_no_onnx_form() -> None:
    with pytest.raises(UnsupportedLayerError, match="convert for phase TEST"):
        resolved(HALF, "TRAIN").to_onnx(None, ["x"])


def test_refuses_a_ratio_beyond_one() -> None:
    error = refusal(f"{HALF} dropout_param {{ dropout_ratio: 1.5 }}", (2, 3))
    assert isinstance(error, NetError)
    assert "1.5 is not between 0 and 1" in str(error)


def test_refuses_to_keep_nothing_in_training() -> None:
    text = f"{HALF} dropout_param {{ dropout_ratio: 1 }}"
    with pytest.raises(NetError, match="makes NaN of all in phase TRAIN"):
        resolved(text, "TRAIN")
    assert resolved(text).affine({}, 1) is not None  # In phase TEST it is y = x.


def test_fast_rcnn_fork_scales_at_inference_instead() -> None:
    x = np.random.default_rng(2).standard_normal((2, 3, 5, 7))
    check_layer(
        'type: "Dropout" dropout_param { dropout_ratio: 0.25 scale_train: false }', [x], [0.75 * x]
    )


def test_fast_rcnn_fork_does_not_scale_in_training() -> None:
    torch.manual_seed(0)
    text = f"{HALF} dropout_param {{ dropout_ratio: 0.75 scale_train: false }}"
    layer, x = resolved(text, "TRAIN"), torch.ones(200, 500)
    y = run_layer(layer, [x], {}, training=True)
    assert sorted(y.unique().tolist()) == [0, 1]
    assert abs((y > 0).float().mean().item() - 0.25) < 0.01


def test_segnet_fork_samples_at_inference() -> None:
    torch.manual_seed(0)
    text = f"{HALF} dropout_param {{ dropout_ratio: 0.75 sample_weights_test: true }}"
    y = run_layer(resolved(text), [torch.ones(200, 500)], {}, training=False)
    assert sorted(y.unique().tolist()) == [0, 4]
    assert abs((y > 0).float().mean().item() - 0.25) < 0.01
    with pytest.raises(UnsupportedLayerError, match="set it to false for the mean"):
        resolved(text).to_onnx(None, ["x"])


def test_two_forks_at_once_are_refused() -> None:
    error = refusal(f"{HALF} dropout_param {{ scale_train: false sample_weights_test: true }}")
    assert "no fork has it beside scale_train: false" in str(error)


def test_a_binarys_field_2_is_of_two_forks() -> None:
    """``scale_train`` and ``sample_weights_test`` have one number; only false tells which."""
    proto = parse_prototxt('layer { name: "l" type: "Dropout" bottom: "x" top: "y" }').layer[0]
    proto.phase = enum_value("Phase", "TEST")
    proto.unknown_field.add(parent="dropout_param", number=2, data=b"\x10\x00")
    x = torch.ones(2, 3)
    assert torch.equal(run_layer(resolve_layer(proto), [x], {}, training=False), x / 2)
    proto.unknown_field[0].data = b"\x10\x01"
    with pytest.raises(UnsupportedLayerError, match="sample_weights_test in SegNet's; give the"):
        resolve_layer(proto)
