"""The YOLO outputs of eric612/MobileNet-YOLO in plain loops, in float64 but for the thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Found = tuple[float, int, tuple[float, float, float, float]]
"""Score, class and (x, y, w, h)."""


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def every_class(objectness: float, classes: Array, threshold: float) -> list[tuple[float, int]]:
    """YOLOv3: the classes whose score is above the threshold."""
    scores = [sigmoid(objectness) * sigmoid(x) for x in classes]
    return [(score, i) for i, score in enumerate(scores) if score > np.float32(threshold)]


def best_class(objectness: float, classes: Array, threshold: float) -> list[tuple[float, int]]:
    """YOLOv2: the best class, if its score reaches the threshold."""
    powers = np.exp(classes - classes.max())
    best = int(np.argmax(powers))
    score = sigmoid(objectness) * powers[best] / powers.sum()
    return [(score, best)] if score >= np.float32(threshold) else []


def detect(
    maps: Sequence[Array],
    anchors: Sequence[Sequence[tuple[float, float]]],
    classes: int,
    confidence: float,
    nms: float,
    choose: Callable[[float, Array, float], list[tuple[float, int]]],
) -> Array:
    """The rows, (1, 1, K, 7); ``anchors`` in cells."""
    found: list[Found] = []
    for x, sizes in zip(maps, anchors, strict=True):
        images, channels, height, width = x.shape
        each = channels // len(sizes)
        for n, row, column in np.ndindex(images, height, width):
            for a, size in enumerate(sizes):
                v = x[n, a * each : (a + 1) * each, row, column]
                box = (
                    (column + sigmoid(v[0])) / width,
                    (row + sigmoid(v[1])) / height,
                    exp(v[2]) * size[0] / width,
                    exp(v[3]) * size[1] / height,
                )
                chosen = choose(v[4], v[5 : 5 + classes], confidence)
                found += [(score, label, box) for score, label in chosen]
    found.sort(key=lambda item: -item[0])
    kept: list[Found] = []
    for item in found:
        if all(overlap(item[2], other[2]) < np.float32(nms) for other in kept):
            kept.append(item)
    rows = [
        [0, label + 1, score, x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for score, label, (x, y, w, h) in kept
    ]
    if not rows:
        rows = [[image, *[-1] * 6] for image in range(len(maps[0]))]
    return np.array(rows, np.float64)[None, None]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in range(2)
    ]
    if min(sides) < 0:
        return 0.0
    shared = sides[0] * sides[1]
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
