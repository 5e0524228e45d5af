from __future__ import annotations

from math import exp

import numpy as np
import pytest
from harness import check_layer, layer_error

from caffe2torch.errors import Caffe2TorchError

STD, MEAN = (0.1, 0.2, 0.3, 0.4), (0.01, -0.02, 0.03, 0.04)
TEXT = "".join(f" bbox_std: {s} bbox_mean: {m}" for s, m in zip(STD, MEAN, strict=True))
PLAIN = 'type: "DecodeBBox"'
SCALED = f"{PLAIN} bbox_reg_param {{ {TEXT} }}"


def inputs(count: int = 7) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    corners = np.sort(rng.uniform(0, 50, (count, 2, 2)), 1).reshape(count, 4)
    corners[::3] = corners[::3, [2, 3, 0, 1]] - 5  # Inverted.
    regions = np.concatenate([rng.integers(0, 3, (count, 1)), corners], 1)
    return [rng.normal(size=(count, 8)).astype(np.float32), regions.astype(np.float32)]


def oracle(values, std=(1,) * 4, mean=(0,) * 4, upright=False):
    rows = []
    offsets, regions = (value.astype(np.float64) for value in values)
    for offset, (image, x1, y1, x2, y2) in zip(offsets, regions, strict=True):
        dx, dy, dw, dh = offset[4:] * std + mean
        w, h = x2 - x1 + 1, y2 - y1 + 1
        cx, cy = (x1 + x2) / 2 + dx * w, (y1 + y2) / 2 + dy * h
        w, h = w * exp(dw), h * exp(dh)
        row = [image, cx - (w - 1) / 2, cy - (h - 1) / 2, cx + (w - 1) / 2, cy + (h - 1) / 2]
        if not upright or (row[1] <= row[3] and row[2] <= row[4]):
            rows.append(row)
    return np.array(rows)[:, :, None, None]


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_regions(phase):
    """Phase TRAIN leaves out inverted boxes."""
    values = inputs()
    upright = phase == "TRAIN"
    wanted = oracle(values, upright=upright)
    assert len(wanted) == 7 or upright
    check_layer(PLAIN, values, [wanted], phase=phase)
    column = [value[:, :, None, None] for value in values]
    check_layer(SCALED, column, [oracle(values, STD, MEAN, upright)], phase=phase)


@pytest.mark.parametrize("field", ["", "decode_bbox_param { gt_iou_thr: 0.5 }"])
def test_training_leaves_out_regions_that_are_true_boxes(field):
    offsets, regions = inputs(9)
    threshold = np.float32(0.5 if field else 0.95)
    matched = np.random.default_rng(2).uniform(size=(9, 6)).astype(np.float32)
    matched[:, 5] = 0.1, threshold, 0.2, 0.3, 1, 0.4, 0.49, 0.0, 0.2
    far_off = matched[:, 5] < threshold
    wanted = oracle([offsets[far_off], regions[far_off]], upright=True)
    assert 0 < len(wanted) < 7
    check_layer(f"{PLAIN} {field}", [offsets, regions, matched], [wanted], phase="TRAIN")


@pytest.mark.parametrize(
    ("text", "shapes", "wanted"),
    [
        (PLAIN, ((3, 84), (3, 5)), "(3, 84) is not (R, 8)"),
        (PLAIN, ((3, 8), (3, 4)), "(3, 4) is not (R, 5)"),
        (PLAIN, ((3, 8), (2, 5)), "3 offsets for 2 regions"),
        (
            PLAIN,
            ((3, 8), (3, 5), (3, 6)),
            "is for phase TRAIN only; read the net in it",
        ),
        (f"{PLAIN} bbox_reg_param {{ bbox_mean: 0 bbox_std: 1 }}", ((3, 8), (3, 5)), "four values"),
    ],
)
def test_refusals(text, shapes, wanted):
    error = layer_error(text, shapes)
    assert isinstance(error, Caffe2TorchError)
    assert wanted in str(error)
