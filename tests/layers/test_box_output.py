from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from harness import check_layer, layer_error
from proposal_oracles import greedy

from caffe2torch.errors import NetError

FIELDS = ((20, 40), (28, 33), (80, 60))
STRIDES = (8, 8, 16)
SIZES = ((5, 6), (5, 6), (3, 4))
TEXT = " ".join(f"field_w: {w} field_h: {h}" for w, h in FIELDS)
TEXT += " downsample_rate: 8 downsample_rate: 8 downsample_rate: 16"
NOTHING = [np.array([[0, 1, 1, 10, 10]]), np.zeros((1, 6))]


def layer(fields: str = "", regression: str = "") -> str:
    return f'type: "BoxOutput" box_output_param {{ {TEXT} {fields} }} {regression}'


def maps(seed: int, images: int = 2, classes: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(size=(images, classes + 4, *size)) * 0.7).astype(np.float32) for size in SIZES
    ]


def oracle(
    values,
    fg_thr=0.0,
    iou_thr=0.5,
    kind="IOU",
    whr=2.0,
    xyr=2.0,
    limits=(0, 0),
    min_size=15.0,
    std=(1.0,) * 4,
    mean=(0.0,) * 4,
):
    rows = []
    for n in range(len(values[0])):
        boxes, scores = [], []
        for data, (fw, fh), stride in zip(values, FIELDS, STRIDES, strict=True):
            height, width = data.shape[2:]
            for y in range(height):
                for x in range(width):
                    *classes, bx, by, bw, bh = data[n, :, y, x].astype(np.float64)
                    bx, by, bw, bh = (
                        b * s + m for b, s, m in zip((bx, by, bw, bh), std, mean, strict=True)
                    )
                    bx, by = (min(max(b, -1 / xyr), 1 / xyr) for b in (bx, by))
                    bw, bh = (min(max(b, -log(whr)), log(whr)) for b in (bw, bh))
                    bw, bh = fw * exp(bw), fh * exp(bh)
                    bx = max(bx * fw + (x + 0.5) * stride - bw / 2, 0)
                    by = max(by * fh + (y + 0.5) * stride - bh / 2, 0)
                    bw, bh = min(bw, width * stride - bx), min(bh, height * stride - by)
                    score = max(classes[1:]) - classes[0]
                    if score >= fg_thr and bw >= min_size and bh >= min_size:
                        boxes.append([bx, by, bx + bw, by + bh])
                        scores.append(score)
        boxes, scores = boxes[::-1], scores[::-1]
        rows += [[n, *boxes[i], scores[i]] for i in greedy(boxes, scores, limits, iou_thr, 0, kind)]
    table = np.array(rows).reshape(-1, 6)
    return [shaped(table[:, :5]), shaped(table)] if rows else [shaped(x) for x in NOTHING]


def shaped(table: np.ndarray) -> np.ndarray:
    return table[:, :, None, None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("fields", "settings"),
    [
        ("fg_thr: -5 iou_thr: 0.65", {"fg_thr": -5, "iou_thr": 0.65}),
        ("max_nms_num: 20 max_post_nms_num: 7 min_size: 0", {"limits": (20, 7), "min_size": 0}),
        ("field_whr: 1.2 field_xyr: 8", {"whr": 1.2, "xyr": 8}),
    ],
)
def test_proposals(seed, fields, settings):
    values = maps(seed)
    check_layer(layer(fields), values, oracle(values, **settings))
    check_layer(layer(fields), values, oracle(values, **settings)[:1])


@pytest.mark.parametrize("kind", ["IOMU", "IOFU"])
def test_other_overlaps_have_no_onnx_form(kind):
    values = maps(5)
    fields = f'nms_type: "{kind}" fg_thr: -1'
    check_layer(layer(fields), values, oracle(values, fg_thr=-1, kind=kind), onnx=False)
    with pytest.raises(Exception, match=f"{kind} is an overlap that ONNX's"):
        check_layer(layer(fields), values, oracle(values, fg_thr=-1, kind=kind))


def test_scaled_and_shifted_offsets():
    std, mean = (0.1, 0.2, 0.3, 0.4), (0.05, -0.1, 0.2, 0.1)
    text = "".join(f" bbox_std: {s} bbox_mean: {m}" for s, m in zip(std, mean, strict=True))
    values = maps(6)
    regression = f"bbox_reg_param {{ {text} }}"
    check_layer(layer("", regression), values, oracle(values, std=std, mean=mean))


def test_of_equal_scores_the_later_box_is_first():
    values = maps(7, images=1)
    for data in values:
        data[:, :3] = np.round(data[:, :3])
    check_layer(layer("fg_thr: 1"), values, oracle(values, fg_thr=1))


def test_a_row_stands_for_no_proposal():
    values = maps(8)
    check_layer(layer("fg_thr: 50"), values, [shaped(x) for x in NOTHING])


@pytest.mark.parametrize(
    ("text", "shapes", "wanted"),
    [
        (layer("field_w: 3"), ((1, 6, 3, 4),) * 3, "4 field_w, 3 field_h and 3 downsample_rate"),
        (layer(), ((1, 6, 3, 4),) * 2, "3 downsample_rate for 2 bottoms"),
        (layer("field_whr: 0"), ((1, 6, 3, 4),) * 3, "must be positive"),
        (layer("", "bbox_reg_param { bbox_mean: 0 bbox_std: 1 }"), ((1, 6, 3, 4),) * 3, "four"),
        (layer(), ((1, 6, 3, 4), (2, 6, 3, 4), (1, 6, 3, 4)), "(2, 6, 3, 4) is not (1, classes"),
        (layer(), ((1, 5, 3, 4),) * 3, "(1, 5, 3, 4) is not (1, classes + 4, H, W)"),
    ],
)
def test_refusals(text, shapes, wanted):
    error = layer_error(text, shapes)
    assert isinstance(error, NetError)
    assert wanted in str(error)
