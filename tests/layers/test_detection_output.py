from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from detection_oracle import Settings, detect, random_inputs, random_refinement
from harness import check_layer
from opencv_net import run_opencv
from refusals import refusal, resolved

from caffe2torch.errors import Caffe2TorchError, NetError, UnsupportedLayerError
from caffe2torch.lower.eager import module_of

PLAIN = Settings(num_classes=3, code_type="CENTER_SIZE", confidence_threshold=0.1)
OPENCV_TOLERANCE = 1e-6
"""A few roundings of float32 edges near 1."""
BOTTOMS = 'bottom: "loc" bottom: "conf" bottom: "prior" top: "rows"'


def expected(settings, inputs):
    return [detect(settings, *(array.astype(np.float64) for array in inputs))]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"code_type": "CORNER"},
        {"code_type": "CORNER_SIZE"},
        {"variance_encoded_in_target": True},
        {"confidence_threshold": None},
        {"top_k": 5},
        {"top_k": 0},
        {"top_k": 1000},
        {"top_k": -2},
        {"keep_top_k": 7},
        {"keep_top_k": 0},
        {"keep_top_k": 1000},
        {"keep_top_k": 4, "top_k": 3},
        {"share_location": False},
        {"share_location": False, "background_label_id": -1},
        {"share_location": False, "background_label_id": 1, "keep_top_k": 6},
        {"background_label_id": 7},
        {"num_classes": 1},
        {"nms_threshold": 0.0},
        {"nms_threshold": 1.5},
        {"nms_threshold": 0.9, "eta": 0.8},
        {"nms_threshold": 0.4, "eta": 0.8},
        {"confidence_threshold": 2.0},
        {"clip": True},
        {"use_polygon": True},
        {"use_polygon": True, "keep_top_k": 7, "top_k": 9},
        {"use_polygon": True, "confidence_threshold": 2.0},
        {"use_polygon": True, "num_classes": 1},
        {"clip": True, "code_type": "CORNER", "share_location": False},
    ],
    ids=str,
)
def test_rows_and_their_order(change):
    settings = replace(PLAIN, **change)
    rng = np.random.default_rng(7)
    inputs = random_inputs(rng, settings, images=2, priors=23)
    other = random_inputs(rng, settings, images=3, priors=23)
    check_layer(
        settings.prototxt(),
        inputs,
        expected(settings, inputs),
        batch_inputs=other,
        batch_expected=expected(settings, other),
    )


@pytest.mark.parametrize("seed", range(8))
def test_crowded_inverted_boxes(seed):
    rng = np.random.default_rng(seed)
    settings = replace(PLAIN, code_type="CORNER", top_k=20, keep_top_k=15, nms_threshold=0.2)
    loc, conf, prior = random_inputs(rng, settings, images=2, priors=31)
    inputs = [3 * loc, conf, prior]
    check_layer(settings.prototxt(), inputs, expected(settings, inputs))


def test_only_images_without_detections_have_no_row():
    inputs = random_inputs(np.random.default_rng(3), PLAIN, images=3, priors=11)
    inputs[1][1] = -1
    rows = expected(PLAIN, inputs)
    assert set(rows[0][0, 0, :, 0]) == {0, 2}
    check_layer(PLAIN.prototxt(), inputs, rows)


def test_equal_scores_go_by_the_index_of_the_prior():
    settings = replace(PLAIN, top_k=4, nms_threshold=0.9)
    inputs = random_inputs(np.random.default_rng(5), settings, images=1, priors=13)
    inputs[1] = np.divide(np.round(inputs[1] * 4), 4, dtype=inputs[1].dtype)
    check_layer(settings.prototxt(), inputs, expected(settings, inputs))


def test_a_score_at_the_threshold_is_no_detection():
    settings = replace(PLAIN, confidence_threshold=0.25, nms_threshold=0.9)
    inputs = random_inputs(np.random.default_rng(5), settings, images=1, priors=7)
    inputs[1][:] = 0.25
    inputs[1][0, 4] = 0.5
    rows = expected(settings, inputs)
    assert rows[0].shape == (1, 1, 1, 7)
    check_layer(settings.prototxt(), inputs, rows)


def test_gradients_reach_offsets_and_scores():
    loc, conf, prior = random_inputs(np.random.default_rng(1), PLAIN, images=1, priors=5)
    tensors = [torch.from_numpy(array).requires_grad_() for array in (loc, conf)]
    layer = module_of(resolved(f"{BOTTOMS} {PLAIN.prototxt()}"), [])
    layer(*tensors, torch.from_numpy(prior))[..., 2:].sum().backward()
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in tensors)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("", "num_classes is not given"),
        ("num_classes: 2 background_label_id: -1", "needs share_location: false"),
        ("num_classes: 2 nms_param { nms_threshold: -0.1 }", "-0.1 is negative"),
        ("num_classes: 2 nms_param { eta: 0 }", "0 is not in (0, 1]"),
        ("num_classes: 2 nms_param { eta: 1.5 }", "1.5 is not in (0, 1]"),
        ("num_classes: 3", "should have 15 channels to match the priors"),
    ],
)
def test_refuses_what_caffe_refuses(fields, text):
    layer = f'{BOTTOMS} type: "DetectionOutput" detection_output_param {{ {fields} }}'
    error = refusal(layer, (1, 20), (1, 10), (1, 2, 20))
    assert isinstance(error, NetError)
    assert text in str(error)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (((1, 16), (1, 10), (1, 2, 20)), "should have 20 channels"),
        (((2, 20), (1, 10), (1, 2, 20)), "are not of one batch"),
        (((1, 20), (1, 10), (1, 1, 20)), "hold no variances"),
        (((1, 20, 2, 1), (1, 10), (1, 2, 20)), "has more than channels"),
    ],
)
def test_refuses_bottoms_that_do_not_fit(shapes, text):
    layer = f'{BOTTOMS} type: "DetectionOutput" detection_output_param {{ num_classes: 2 }}'
    error = refusal(layer, *shapes)
    assert isinstance(error, Caffe2TorchError)
    assert text in str(error)


def test_refuses_onnx_for_a_threshold_that_falls_too_slowly():
    settings = replace(PLAIN, nms_threshold=0.9, eta=0.999)
    inputs = random_inputs(np.random.default_rng(2), settings, images=1, priors=9)
    check_layer(settings.prototxt(), inputs, expected(settings, inputs), onnx=False)
    layer = resolved(f"{BOTTOMS} {settings.prototxt()}")
    with pytest.raises(UnsupportedLayerError, match=r"eta: 0\.999 lets the threshold fall"):
        layer.to_onnx(None, ["loc", "conf", "prior"])


def test_clipped_boxes_are_those_of_opencv():
    settings = replace(PLAIN, clip=True, nms_threshold=0.45, top_k=400, keep_top_k=200)
    loc, conf, prior = random_inputs(np.random.default_rng(2), settings, images=1, priors=23)
    (expected_rows,) = expected(settings, [loc, conf, prior])
    assert np.any(expected_rows[..., 3:] == 0)
    rows = run_opencv(settings.prototxt(), [loc, conf, prior])
    # OpenCV orders by score alone and pads with rows of zeros.
    by_score = sorted(expected_rows[0, 0].tolist(), key=lambda row: -row[2])
    got = sorted(rows[0, 0].tolist(), key=lambda row: -row[2])
    np.testing.assert_allclose(got[: len(by_score)], by_score, rtol=0, atol=OPENCV_TOLERANCE)
    assert not np.any(got[len(by_score) :])


@pytest.mark.parametrize("bottoms", [4, 5])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"code_type": "CORNER"},
        {"code_type": "CORNER_SIZE"},
        {"variance_encoded_in_target": True},
        {"confidence_threshold": None, "objectness_score": 0.8},
        {"background_label_id": 1, "objectness_score": 0.8},
        {"clip": True, "keep_top_k": 7},
    ],
    ids=str,
)
def test_anchor_refinement_of_refinedet(change, bottoms):
    settings = replace(PLAIN, **{"objectness_score": 0.4, **change})
    rng = np.random.default_rng(11)

    def inputs(images):
        base = random_inputs(rng, settings, images, priors=23)
        return (base + random_refinement(rng, images, priors=23))[:bottoms]

    first, other = inputs(2), inputs(3)
    check_layer(
        settings.prototxt(),
        first,
        expected(settings, first),
        batch_inputs=other,
        batch_expected=expected(settings, other),
    )


def test_anchor_refinement_shares_locations():
    text = f'{BOTTOMS} bottom: "c" bottom: "l" {replace(PLAIN, share_location=False).prototxt()}'
    error = refusal(text, (1, 12), (1, 3), (1, 2, 4), (1, 2), (1, 4))
    assert "offsets of the anchor refinement need it" in str(error)
    text = f'{BOTTOMS} bottom: "c" {PLAIN.prototxt()}'
    assert "should have 2 channels" in str(refusal(text, (1, 4), (1, 3), (1, 2, 4), (1, 3)))


@pytest.mark.parametrize(
    "settings",
    [
        replace(PLAIN, use_polygon=True, code_type="CORNER"),
        replace(PLAIN, use_polygon=True, variance_encoded_in_target=True),
    ],
)
def test_polygons_need_centres_and_variances(settings):
    error = refusal(f"{BOTTOMS} {settings.prototxt()}", (1, 12), (1, 3), (1, 2, 4))
    assert isinstance(error, UnsupportedLayerError)
    assert "only true is converted, with code_type CENTER_SIZE" in str(error)


def test_twice_the_boxes_are_those_of_textboxes():
    error = refusal(f"{BOTTOMS} {PLAIN.prototxt()}", (1, 16), (1, 12), (1, 2, 8))
    assert "write denser_prior_boxes: true into each prior_box_param" in str(error)
    error = refusal(f"{BOTTOMS} {PLAIN.prototxt()}", (1, 16), (1, 6), (1, 2, 8))
    assert "TextBoxes" not in str(error)


def test_eighteen_boxes_more_a_cell_are_those_of_faceboxes():
    error = refusal(f"{BOTTOMS} {PLAIN.prototxt()}", (1, 21 * 4), (1, 21 * 3), (1, 2, 3 * 4))
    assert "write faceboxes: true into each prior_box_param" in str(error)
    error = refusal(f"{BOTTOMS} {PLAIN.prototxt()}", (1, 20 * 4), (1, 20 * 3), (1, 2, 3 * 4))
    assert "FaceBoxes" not in str(error)
