from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from proposal_oracles import anchors_of, rpn, rpn_inputs

ANCHORS = anchors_of(16, (0.5, 1, 2), (2, 4), round)
SETTINGS = {
    "feat_stride": 16,
    "test_rpn_pre_nms_top_n": 200,
    "test_rpn_post_nms_top_n": 40,
    "test_rpn_nms_thresh": 0.6,
    "test_rpn_min_size": 12.9,
}
SHAPES = [(1, 12, 7, 10), (1, 24, 7, 10), (1, 3)]


def layer(**changes: object) -> str:
    fields = [f"{name}: {value}" for name, value in (SETTINGS | changes).items() if value != ""]
    fields += [f"anchors: {edge}" for box in ANCHORS for edge in box]
    return f'type: "FrcnnProposal" proposal_param {{ {" ".join(fields)} }}'


@pytest.mark.parametrize("steps", [0, 20])
def test_settings_of_the_configuration_file(steps: int) -> None:
    """With few different scores, of equal ones the last is the best."""
    scores, deltas, info = rpn_inputs(np.random.default_rng(0), 1, 6, 7, 10, (112, 160, 2.0))
    if steps:
        scores = np.round(scores * steps) / steps
    sizes = info[:, [0, 1, 2, 2]]
    rows, found = rpn(
        [scores, deltas, sizes], ANCHORS, 16, 12, (200, 40), np.float32(0.6), last_first=True
    )
    assert len(rows) == 40
    expected = [rows[..., None, None], found[:, None, None, None]]
    check_layer(layer(), [scores, deltas, info], expected)
    check_layer(layer(), [scores, deltas, info], expected[:1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "FrcnnProposal"', "feat_stride, test_rpn_pre_nms_top_n, "),
        (layer(test_rpn_min_size=""), "write its value from there into the layer"),
        (layer(test_soft_nms=1), "proposal_param.test_soft_nms: only 0 is converted"),
        (layer(test_rpn_post_nms_top_n=0), "test_rpn_post_nms_top_n: must be greater than 0"),
        (layer(anchors=1), "25 numbers; give four an anchor"),
        (f"{layer()} phase: TRAIN", "read the net for phase TEST"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    assert message in str(layer_error(text, SHAPES))


def test_one_image_at_a_time() -> None:
    error = layer_error(layer(), [(2, 12, 7, 10), (2, 24, 7, 10), (2, 3)])
    assert "one image at a time" in str(error)
