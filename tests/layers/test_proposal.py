from __future__ import annotations

from math import floor

import numpy as np
import pytest
from harness import check_layer, layer_error
from proposal_oracles import anchors_of, rpn, rpn_inputs

from caffe2torch.errors import NetError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_onnx import complete, to_onnx
from caffe2torch.passes.draft import BlobSource, State
from caffe2torch.pipeline import build_graph

PLAIN = "ratio: 0.5 ratio: 1 ratio: 2 scale: 8 scale: 16 scale: 32"


def layer(fields: str = PLAIN) -> str:
    return f'type: "Proposal" proposal_param {{ {fields} }}'


def half_up(value: float) -> int:
    return floor(value + 0.5)


@pytest.mark.parametrize("seed", range(3))
def test_regions_of_two_images_with_two_scales(seed):
    """Boxes that are too small for the scale have score 0, and come last."""
    fields = f"{PLAIN} feat_stride: 8 min_size: 12 post_nms_topn: 40 nms_thresh: 0.5"
    inputs = rpn_inputs(np.random.default_rng(seed), 2, 9, 5, 6, (40, 48, 2.0, 1.5, 7))
    anchors = anchors_of(16, (0.5, 1, 2), (8, 16, 32), half_up)
    rows, scores = rpn(inputs, anchors, 8, 12, (6000, 40), 0.5, drop_small=False)
    assert set(rows[:, 0]) == {0, 1}
    check_layer(layer(fields), inputs, [rows, scores])


def test_small_boxes_fill_up_in_order():
    inputs = rpn_inputs(np.random.default_rng(0), 1, 9, 2, 3, (20, 30, 4.0, 4.0))
    anchors = anchors_of(16, (0.5, 1, 2), (8, 16, 32), half_up)
    rows, scores = rpn(inputs, anchors, 16, 16, (6000, 300), 0.7, drop_small=False)
    assert len(rows)
    assert not scores.any()
    check_layer(layer(), inputs, [rows, scores])


def test_limits_and_anchors_of_its_own():
    """11.3 and 5.66 are rounded, 22.5 is a half: it goes up."""
    fields = "base_size: 15 ratio: 0.444444 ratio: 1.5 scale: 1.5 pre_nms_topn: 30"
    inputs = rpn_inputs(np.random.default_rng(3), 1, 2, 6, 5, (96, 80, 1.0, 0.5))
    anchors = anchors_of(15, (0.444444, 1.5), (1.5,), half_up)
    rows, _ = rpn(inputs, anchors, 16, 16, (30, 300), 0.7, drop_small=False)
    check_layer(layer(fields), inputs, [rows])


def test_one_scale_is_that_of_both_sides():
    inputs = rpn_inputs(np.random.default_rng(4), 1, 9, 3, 4, (48, 64, 2.5))
    anchors = anchors_of(16, (0.5, 1, 2), (8, 16, 32), half_up)
    info = inputs[2][:, [0, 1, 2, 2]]
    rows, _ = rpn([*inputs[:2], info], anchors, 16, 16, (6000, 300), 0.7, drop_small=False)
    check_layer(layer(), inputs, [rows])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("scale: 8", "proposal_param.ratio: needs values, all positive"),
        ("ratio: 1", "proposal_param.scale: needs values, all positive"),
        ("ratio: 1 scale: -1", "proposal_param.scale: needs values, all positive"),
        (f"{PLAIN} feat_stride: 0", "proposal_param.feat_stride: must be greater than 0"),
        (f"{PLAIN} post_nms_topn: 0", "proposal_param.post_nms_topn: must be greater than 0"),
        ("ratio: 1 scale: 8", "is not (N, 2, H, W), two for each of 1 anchors"),
    ],
)
def test_refusals(fields, text):
    error = layer_error(layer(fields), ((1, 18, 3, 4), (1, 36, 3, 4), (1, 4)))
    assert isinstance(error, NetError)
    assert text in str(error)


def test_what_follows_from_the_number_of_regions_is_not_declared():
    net = parse_prototxt(
        f"""
        layer {{ name: "i" type: "Input" top: "a" top: "b" top: "c" input_param {{
          shape {{ dim: 1 dim: 18 dim: 3 dim: 4 }} shape {{ dim: 1 dim: 36 dim: 3 dim: 4 }}
          shape {{ dim: 1 dim: 4 }} }} }}
        layer {{ name: "p" {layer()} bottom: "a" bottom: "b" bottom: "c" top: "r" }}
        layer {{ name: "pool" type: "ROIPooling" bottom: "a" bottom: "r" top: "pool"
          roi_pooling_param {{ pooled_h: 2 pooled_w: 3 }} }}
        layer {{ name: "flat" type: "Flatten" bottom: "pool" top: "flat" }}
        layer {{ name: "side" type: "ReLU" bottom: "b" top: "side" }}
        """
    )
    model = complete(to_onnx(build_graph(net, BlobSource(), State("TEST"))))
    dims = {o.name: o.type.tensor_type.shape.dim for o in model.graph.output}
    assert not dims["flat"][0].HasField("dim_value")
    assert dims["flat"][1].dim_value == 108
    assert [d.dim_value for d in dims["side"]][1:] == [36, 3, 4]
