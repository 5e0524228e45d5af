from __future__ import annotations

from math import exp

import numpy as np
import pytest
from harness import check_layer, layer_error
from proposal_oracles import greedy

STD = (0.1, 0.1, 0.2, 0.2)
TEXT = "".join(f" bbox_std: {s} bbox_mean: 0" for s in STD)
IMAGE = np.array([[150, 200]], np.float32)


def layer(fields: str = "", aware: bool = True) -> str:
    regression = f"cls_aware: {str(aware).lower()} {TEXT}"
    return (
        f'type: "FrcnnOutput" frcnn_output_param {{ {fields} }} bbox_reg_param {{ {regression} }}'
    )


def inputs(seed: int, count: int = 40, classes: int = 4, aware: bool = True) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.uniform(-20, 180, (count, 2, 2)), 1).reshape(count, 4)
    regions = np.concatenate([np.zeros((count, 1)), corners], 1)
    offsets = rng.normal(size=(count, 4 * classes if aware else 8))
    scores = rng.permuted(np.linspace(0.01, 0.99, count * classes)).reshape(count, classes)
    return [*(x.astype(np.float32) for x in (scores, offsets, regions)), IMAGE]


def oracle(values, conf=0.0, iou=0.5, most=0, aware=True, kind="IOU"):
    scores, offsets, regions, image = (value.astype(np.float64) for value in values)
    rows = []
    for label in range(1, scores.shape[1]):
        boxes, found = [], []
        for r, (_, x1, y1, x2, y2) in enumerate(regions):
            first = 4 * label if aware else 4
            dx, dy, dw, dh = offsets[r, first : first + 4] * STD
            w, h = x2 - x1 + 1, y2 - y1 + 1
            cx, cy = (x1 + x2) / 2 + dx * w, (y1 + y2) / 2 + dy * h
            w, h = (w * exp(dw) - 1) / 2, (h * exp(dh) - 1) / 2
            if scores[r, label] >= conf:
                low = [max(cx - w, 0), max(cy - h, 0)]
                boxes.append([*low, min(cx + w, image[0, 1]), min(cy + h, image[0, 0])])
                found.append(scores[r, label])
        rows += [
            [0, *boxes[i], label, found[i]] for i in greedy(boxes, found, (0, 0), iou, 1, kind)
        ]
    if most:
        best = sorted(rows, key=lambda row: -row[-1])[:most]
        rows = [row for row in rows if row in best]
    return np.array([[0] + [-1] * 6, *rows])[:, :, None, None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ("", {}),
        ("conf_thr: 0.5 iou_thr: 0.3", {"conf": 0.5, "iou": 0.3}),
        ("max_det_num: 11", {"most": 11}),
        ("max_det_num: 1000", {"most": 1000}),
        ("conf_thr: 2 max_det_num: 5", {"conf": 2}),
    ],
)
def test_detections(seed, aware, fields, settings):
    values = inputs(seed, aware=aware)
    check_layer(layer(fields, aware), values, [oracle(values, aware=aware, **settings)])


def test_regions_with_scores_and_another_overlap():
    values = inputs(7)
    wanted = oracle(values, kind="IOMU")
    values[2] = np.concatenate([values[2], np.ones((40, 1), np.float32)], 1)
    check_layer(layer('nms_type: "IOMU"'), values, [wanted], onnx=False)


@pytest.mark.parametrize(
    ("aware", "shapes", "text"),
    [
        (True, ((3, 4), (3, 8), (3, 5), (1, 2)), "offsets' shape (3, 8) is not (R, 16)"),
        (False, ((3, 4), (3, 16), (3, 5), (1, 2)), "offsets' shape (3, 16) is not (R, 8)"),
        (True, ((3, 4), (3, 16), (2, 5), (1, 2)), "2 regions for 3 probabilities"),
        (True, ((3, 4), (3, 16), (3, 5), (2, 2)), "image's shape (2, 2) is not (1, 2)"),
        (True, ((3, 1), (3, 4), (3, 5), (1, 2)), "of no class but the background"),
    ],
)
def test_refusals(aware, shapes, text):
    assert text in str(layer_error(layer("", aware), shapes))
