"""Which boxes the detection forks propose, box by box in plain loops and in float64."""

from __future__ import annotations

from math import exp, inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def anchors_of(base: int, ratios: Any, scales: Any, whole: Any) -> list[list[float]]:
    """rpn/generate_anchors.py, written out: ``whole`` rounds."""
    boxes = []
    for ratio in ratios:
        width = whole(sqrt(base * base / ratio))
        height = whole(width * ratio)
        for scale in scales:
            w, h, centre = (width * scale - 1) / 2, (height * scale - 1) / 2, (base - 1) / 2
            boxes.append([centre - w, centre - h, centre + w, centre + h])
    return boxes


def rpn(
    inputs: list[Array],
    anchors: list[list[float]],
    stride: int,
    min_size: float,
    limits: tuple[int, int],
    threshold: float,
    drop_small: bool = True,
    last_first: bool = False,
) -> tuple[Array, Array]:
    """Rows (image, box) and scores; rows of images are (height, width, scale y, scale x).

    Of equal scores the first is the better, or the last.
    """
    scores, deltas, info = inputs
    rows, found = [], []
    for n in range(len(scores)):
        boxes: list[list[float]] = []
        values: list[float] = []
        for y in range(scores.shape[2]):
            for x in range(scores.shape[3]):
                for a, (x1, y1, x2, y2) in enumerate(anchors):
                    dx, dy, dw, dh = deltas[n, 4 * a : 4 * a + 4, y, x].astype(np.float64)
                    w, h = x2 - x1 + 1, y2 - y1 + 1
                    cx = x * stride + x1 + w / 2 + dx * w
                    cy = y * stride + y1 + h / 2 + dy * h
                    w, h = w * exp(dw) / 2, h * exp(dh) / 2
                    box = [cx - w, cy - h, cx + w, cy + h]
                    ends = [info[n, 1] - 1, info[n, 0] - 1] * 2
                    box = [max(0.0, min(b, e)) for b, e in zip(box, ends, strict=True)]
                    value = float(scores[n, len(anchors) + a, y, x])
                    if (
                        box[2] - box[0] + 1 < min_size * info[n, 3]
                        or box[3] - box[1] + 1 < min_size * info[n, 2]
                    ):
                        value = -inf if drop_small else 0.0
                    if value > -inf:
                        boxes.append(box)
                        values.append(value)
        if last_first:
            boxes, values = boxes[::-1], values[::-1]
        for i in greedy(boxes, values, limits, threshold, 1):
            rows.append([n, *boxes[i]])
            found.append(values[i])
    return np.array(rows).reshape(-1, 5), np.array(found)


def greedy(
    boxes: list[list[float]],
    scores: list[float],
    limits: tuple[int, int],
    threshold: float,
    pixel: float,
    kind: str = "IOU",
) -> list[int]:
    """The boxes that are kept, best first, equal scores by index; limits of 0 are none."""
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    order = order[: limits[0] or None]
    if threshold > 1:
        return order[: limits[1] or None]
    kept: list[int] = []
    for i in order:
        if all(overlap(boxes[k], boxes[i], pixel, kind) <= threshold for k in kept):
            kept.append(i)
        if len(kept) == limits[1]:
            break
    return kept


def overlap(a: list[float], b: list[float], pixel: float, kind: str) -> float:
    """Of box ``b`` with the kept box ``a``."""
    w = min(a[2], b[2]) - max(a[0], b[0]) + pixel
    h = min(a[3], b[3]) - max(a[1], b[1]) + pixel
    shared = max(w, 0.0) * max(h, 0.0)
    size_a = (a[2] - a[0] + pixel) * (a[3] - a[1] + pixel)
    size_b = (b[2] - b[0] + pixel) * (b[3] - b[1] + pixel)
    inverted = any(box[2] < box[0] or box[3] < box[1] for box in (a, b))
    if inverted or not shared:
        return 0.0
    whole = {"IOMU": min(size_a, size_b), "IOFU": size_a}.get(kind, size_a + size_b - shared)
    return shared / whole


def rpn_inputs(
    rng: np.random.Generator, images: int, anchors: int, height: int, width: int, size: Any
) -> list[Array]:
    """Scores, offsets and image rows of maps of these sizes."""
    scores = rng.permuted(np.linspace(0.01, 0.99, images * 2 * anchors * height * width))
    deltas = rng.normal(size=(images, 4 * anchors, height, width)) * 0.4
    return [
        scores.reshape(images, 2 * anchors, height, width).astype(np.float32),
        deltas.astype(np.float32),
        np.tile(np.array(size, np.float32), (images, 1)),
    ]
