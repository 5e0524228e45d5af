from __future__ import annotations

from typing import Any

import numpy as np
from harness import check_layer, layer_error

HEIGHTS = [11, 16, 23, 33, 48, 68, 97, 139, 198, 283]


def layer(params: str = "'feat_stride': 16") -> str:
    return (
        'type: "Python" python_param { module: "layers.text_proposal_layer" '
        f'layer: "ProposalLayer" param_str: "{params}" }}'
    )


def oracle(scores: Any, deltas: Any, info: Any) -> tuple[Any, Any]:
    """By loops over rows, columns and anchors."""
    boxes, kept = [], []
    height, width = scores.shape[2:]
    for i, j in np.ndindex(height, width):
        for a, h in enumerate(HEIGHTS):
            left, right = int(7.5 - 16 // 2) + 16 * j, int(7.5 + 16 // 2) + 16 * j
            top, bottom = int(7.5 - h // 2) + 16 * i, int(7.5 + h // 2) + 16 * i
            size = bottom - top + 1
            high = np.exp(deltas[0, 2 * a + 1, i, j]) * size
            above = deltas[0, 2 * a, i, j] * size + (top + bottom) / 2 - high / 2
            box = np.array([left, above, right, above + high])
            limits = np.array([info[0, 1], info[0, 0]] * 2) - 1
            boxes.append(np.clip(box, 0, limits))
            kept.append([scores[0, 10 + a, i, j]])
    return np.array(boxes), np.array(kept)


def test_boxes_and_scores_of_all_anchors() -> None:
    rng = np.random.default_rng(0)
    scores, deltas = rng.uniform(0, 1, (1, 20, 3, 5)), rng.standard_normal((1, 20, 3, 5)) * 0.5
    info = np.array([[45.0, 71.0, 1.0]])
    check_layer(layer(), [scores, deltas, info], oracle(scores, deltas, info))


def test_refuses() -> None:
    shapes = [(1, 20, 3, 5), (1, 20, 3, 5), (1, 3)]
    assert "feat_stride must be positive" in str(layer_error(layer("'x': 1"), shapes, tops=2))
    shapes[1] = (1, 40, 3, 5)
    assert "must be (1, 20, 3, 5)" in str(layer_error(layer(), shapes, tops=2))
