from __future__ import annotations

from math import exp

import numpy as np
import pytest
from harness import check_layer, layer_error
from region_oracles import random_regions

LAYER = (
    'type: "Python" python_param { module: "pylayer.stage_bridge_layer" layer: "StageBridgeLayer" }'
)


def oracle(regions, offsets, scores, info):
    rows = []
    for region, values, found in zip(regions, offsets, scores, strict=True):
        best = max(range(len(found)), key=lambda k: found[k])
        dx, dy, dw, dh = values[4 * best : 4 * best + 4]
        _, x1, y1, x2, y2 = map(float, region)
        w, h = x2 - x1 + 1, y2 - y1 + 1
        x, y = x1 + w / 2 + dx * w, y1 + h / 2 + dy * h
        w, h = w * exp(dw) / 2, h * exp(dh) / 2
        height, width = info[0, :2]
        ends = [width - 1, height - 1] * 2
        corners = zip([x - w, y - h, x + w, y + h], ends, strict=True)
        rows.append([0, *(max(min(edge, end), 0) for edge, end in corners)])
    return np.array(rows)


def inputs(seed, count):
    rng = np.random.default_rng(seed)
    regions = random_regions(rng, count, 1, 60)
    scores = rng.integers(0, 9, size=(count, 3)) / 8  # Some are equal: the first counts.
    offsets = rng.normal(scale=0.4, size=(count, 12))
    info = np.array([[47.0, 61.0, 1.5]])
    return [x.astype(np.float32) for x in (regions, offsets, scores, info)]


@pytest.mark.parametrize("seed", range(2))
def test_the_offsets_of_the_best_class_move_a_region(seed):
    few = inputs(seed, 7)
    expected = oracle(*few)
    assert (expected[:, 1:] == 0).any()
    assert (expected[:, 3] == 60).any()
    check_layer(LAYER, few, [expected])


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (((3, 5), (3, 12), (3, 4), (1, 3)), "are not (R, 5), (R, 4C) and (R, C)"),
        (((2, 5), (3, 12), (3, 3), (1, 3)), "are not (R, 5), (R, 4C) and (R, C)"),
        (((3, 5), (3, 12), (3, 3), (1, 1)), "the image's shape (1, 1) is not (1, 3)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, text):
    assert text in str(layer_error(LAYER, shapes))


def test_training_is_refused():
    error = layer_error(f"{LAYER} phase: TRAIN", ((3, 5), (3, 12), (3, 3), (1, 3)))
    assert "read the net for phase TEST" in str(error)
