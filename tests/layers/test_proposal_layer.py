from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from proposal_oracles import anchors_of, rpn, rpn_inputs

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.layers import find_layer
from caffe2torch.layers._proposals import make_anchors

RPN = "rpn.proposal_layer"
SSH = "SSH.layers.proposal_layer"
MNC = "pylayer.proposal_layer"


def layer(module: str = RPN, params: str = "'feat_stride': 16") -> str:
    return (
        f'type: "Python" python_param {{ module: "{module}" layer: "ProposalLayer"'
        f' param_str: "{params}" }}'
    )


def with_scales(info: np.ndarray) -> np.ndarray:
    return info[:, [0, 1, 2, 2]]


def test_the_published_anchors():
    wanted = [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip
    assert anchors_of(16, (0.5, 1, 2), (8, 16, 32), round) == wanted
    found = make_anchors(16, np.array([0.5, 1, 2]), np.array([8.0, 16, 32]), np.round)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_regions_by_falling_score(seed, phase):
    """Of 9 x 7 x 10 boxes some are too small for the scale, and most overlap another."""
    inputs = rpn_inputs(np.random.default_rng(seed), 1, 9, 7, 10, (112, 160, 2.0))
    limits = (6000, 300) if phase == "TEST" else (12000, 2000)
    anchors = anchors_of(16, (0.5, 1, 2), (8, 16, 32), round)
    rows, scores = rpn([*inputs[:2], with_scales(inputs[2])], anchors, 16, 16, limits, 0.7)
    assert 40 < len(rows) < 300
    check_layer(layer(), inputs, [rows], phase=phase)
    check_layer(layer(), inputs, [rows, scores[:, None]], phase=phase)


def test_the_best_remain():
    params = "'feat_stride': 8 \\n'scales': !!python/tuple [2, 4]"
    inputs = rpn_inputs(np.random.default_rng(0), 1, 6, 22, 30, (176, 240, 0.5))
    anchors = anchors_of(16, (0.5, 1, 2), (2, 4), round)
    rows, _ = rpn([*inputs[:2], with_scales(inputs[2])], anchors, 8, 16, (6000, 300), 0.7)
    assert len(rows) == 300
    check_layer(layer(params=params), inputs, [rows])


def test_nothing_large_enough_is_no_row():
    inputs = rpn_inputs(np.random.default_rng(0), 1, 9, 2, 3, (20, 30, 4.0))
    check_layer(layer(), inputs, [np.zeros((0, 5)), np.zeros((0, 1))])


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_ssh_suppresses_in_training_only(phase):
    params = "{'feat_stride': 16,'scales': [4,8], 'ratios':[1,]}"
    inputs = rpn_inputs(np.random.default_rng(1), 1, 2, 24, 23, (384, 368, 1.0))
    settings = {"TEST": (0, (1000, 1000), 2.0), "TRAIN": (4, (1000, 300), 0.3)}[phase]
    anchors = anchors_of(16, (1,), (4, 8), round)
    rows, scores = rpn([*inputs[:2], with_scales(inputs[2])], anchors, 16, *settings)
    assert len(rows) == 1000 or phase == "TRAIN"
    check_layer(layer(SSH, params), inputs, [rows, scores[:, None]], phase=phase)


def test_ssh_gives_a_region_when_there_is_none():
    inputs = rpn_inputs(np.random.default_rng(1), 1, 9, 2, 3, (2, 3, 1.0))
    nothing = [[[0, 0, 0, 16, 16]], np.zeros((0, 1))]
    check_layer(layer(SSH), inputs, nothing, phase="TRAIN")


def test_mnc_proposes_as_faster_rcnn_at_inference():
    inputs = rpn_inputs(np.random.default_rng(0), 1, 9, 7, 10, (112, 160, 2.0))
    anchors = anchors_of(16, (0.5, 1, 2), (8, 16, 32), round)
    rows, _ = rpn([*inputs[:2], with_scales(inputs[2])], anchors, 16, 16, (6000, 300), 0.7)
    params = "{'feat_stride': 16, 'use_clip': 1, 'gradient_scale': 1}"
    check_layer(layer(MNC, params), inputs, [rows])
    shapes = [x.shape for x in inputs]
    error = layer_error(f"{layer(MNC, params)} phase: TRAIN", shapes)
    assert "read the net for phase TEST" in str(error)
    error = layer_error(layer(MNC, "{'feat_stride': 16, 'scales': [4]}"), shapes)
    assert "scales: a parameter that the known" in str(error)


@pytest.mark.parametrize(
    ("params", "shapes", "text"),
    [
        ("'scales': [8]", (), "feat_stride is not given"),
        ("'feat_stride': 0", (), "feat_stride 0 is not positive"),
        ("{'feat_stride': 16, 'scales': ['a']}", (), "scales ['a'] are not positive numbers"),
        ("'feat_stride': 16", ((1, 8, 3, 4),), "is not (N, 18, H, W)"),
        ("'feat_stride': 16", ((1, 18, 3, 4), (1, 36, 4, 3)), "is not (1, 36, 3, 4)"),
        ("'feat_stride': 16", ((1, 18, 3, 4), (1, 36, 3, 4), (1, 2)), "is not (1, 3), a row"),
        ("'feat_stride': 16", ((2, 18, 3, 4), (2, 36, 3, 4), (2, 3)), "one image at a time"),
    ],
)
def test_refusals(params, shapes, text):
    usual = ((1, 18, 3, 4), (1, 36, 3, 4), (1, 3))
    error = layer_error(layer(params=params), shapes + usual[len(shapes) :])
    assert isinstance(error, NetError)
    assert text in str(error)


def test_unknown_parameters_are_refused():
    error = layer_error(layer(params="{'feat_stride': 16, 'nms': 0.5}"), ((1, 18, 3, 4),) * 3)
    assert isinstance(error, UnsupportedLayerError)
    assert "nms: a parameter that the known" in str(error)


def test_all_are_found_by_module_and_class():
    for module in (RPN, SSH, MNC):
        assert find_layer(f"Python {module}.ProposalLayer") is not None
