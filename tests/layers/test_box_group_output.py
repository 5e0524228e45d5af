from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from harness import check_layer, layer_error
from proposal_oracles import greedy

from caffe2torch.errors import NetError

GROUPS = (((44, 22), (22, 44), (32, 32)), ((90, 60),))
STRIDES = (8, 16)
SIZES = ((5, 6), (3, 4))
NOTHING = [np.array([[0, 1, 1, 10, 10]]), np.zeros((1, 6))]


def layer(fields: str = "", regression: str = "") -> str:
    groups = ""
    for group, stride in zip(GROUPS, STRIDES, strict=True):
        sizes = " ".join(f"field_w: {w} field_h: {h}" for w, h in group)
        groups += f" box_group_param {{ {sizes} stride: {stride} }}"
    return f'type: "BoxGroupOutput" box_group_output_param {{ {groups} {fields} }} {regression}'


def pairs(seed: int, images: int = 2) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    out = []
    for group, size in zip(GROUPS, SIZES, strict=True):
        count = images * len(group)
        out.append(rng.uniform(0.1, 0.9, (count, 3, *size)).astype(np.float32))
        out.append((rng.normal(size=(count, 4, *size)) * 0.5).astype(np.float32))
    return out


def oracle(
    values, fg_thr=0.0, iou_thr=0.5, whr=2.0, xyr=2.0, limits=(0, 0), min_size=15.0, std=(1.0,) * 4
):
    rows = []
    for n in range(len(values[-1])):
        boxes, scores = [], []
        for j, (group, stride) in enumerate(zip(GROUPS, STRIDES, strict=True)):
            probability, offsets = values[2 * j], values[2 * j + 1]
            height, width = offsets.shape[2:]
            for k, (fw, fh) in enumerate(group):
                item = n * len(group) + k
                for y in range(height):
                    for x in range(width):
                        bx, by, bw, bh = offsets[item, :, y, x].astype(np.float64) * std
                        bx, by = (min(max(b, -1 / xyr), 1 / xyr) for b in (bx, by))
                        bw, bh = (min(max(b, -log(whr)), log(whr)) for b in (bw, bh))
                        bw, bh = fw * exp(bw), fh * exp(bh)
                        bx = bx * fw + (x + 0.5) * stride - bw / 2
                        by = by * fh + (y + 0.5) * stride - bh / 2
                        far_x = min(bx + bw - 1, width * stride)
                        far_y = min(by + bh - 1, height * stride)
                        box = [max(bx, 0), max(by, 0), far_x, far_y]
                        score = 1 - float(probability[item, 0, y, x])
                        sides = box[2] - box[0] + 1, box[3] - box[1] + 1
                        if score >= fg_thr and min(sides) >= min_size:
                            boxes.append(box)
                            scores.append(score)
        rows += [[n, *boxes[i], scores[i]] for i in greedy(boxes, scores, limits, iou_thr, 1)]
    table = np.array(rows).reshape(-1, 6)
    tops = [table[:, :5], table] if rows else NOTHING
    return [top[:, :, None, None] for top in tops]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ("", {}),
        ("fg_thr: 0.4 iou_thr: 0.7 min_size: 5", {"fg_thr": 0.4, "iou_thr": 0.7, "min_size": 5}),
        ("max_nms_num: 20 max_post_nms_num: 7", {"limits": (20, 7)}),
        ("field_whr: 8 field_xyr: 1", {"whr": 8, "xyr": 1}),
    ],
)
def test_proposals(seed, fields, settings):
    values = pairs(seed)
    check_layer(layer(fields), values, oracle(values, **settings))
    check_layer(layer(fields), values, oracle(values, **settings)[:1])


def test_scaled_offsets_and_a_row_for_none():
    text = "".join(f" bbox_std: {s} bbox_mean: 0" for s in (0.1, 0.2, 0.3, 0.4))
    values = pairs(6)
    wanted = oracle(values, std=(0.1, 0.2, 0.3, 0.4))
    check_layer(layer("", f"bbox_reg_param {{ {text} }}"), values, wanted)
    check_layer(layer("fg_thr: 2"), values, oracle(values, fg_thr=2))


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        (((3, 2, 5, 6), (3, 4, 5, 6)), "2 box_group_param for 2 bottoms"),
        (((4, 2, 5, 6), (4, 4, 5, 6)) * 2, "(4, 2, 5, 6) is not (N * 3, classes, H, W)"),
        (((3, 2, 5, 6), (3, 4, 6, 5)) * 2, "(3, 4, 6, 5) is not (3, 4, 5, 6)"),
        (((3, 2, 5, 6), (3, 4, 5, 6), (2, 2, 3, 4), (2, 4, 3, 4)), "are of 1 and 2 images"),
    ],
)
def test_refusals(shapes, wanted):
    error = layer_error(layer(), shapes)
    assert isinstance(error, NetError)
    assert wanted in str(error)
