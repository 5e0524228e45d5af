"""SSD's DetectionOutput in plain loops, in float64 but for the thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """The parameters, with Caffe's defaults."""

    num_classes: int
    share_location: bool = True
    background_label_id: int = 0
    code_type: str = "CORNER"
    variance_encoded_in_target: bool = False
    keep_top_k: int = -1
    confidence_threshold: float | None = None
    nms_threshold: float = 0.3
    top_k: int | None = None
    eta: float = 1.0
    clip: bool = False
    objectness_score: float = 0.01
    use_polygon: bool = False

    def prototxt(self) -> str:
        """The layer's type and parameters."""
        top_k = "" if self.top_k is None else f"top_k: {self.top_k}"
        threshold = (
            ""
            if self.confidence_threshold is None
            else f"confidence_threshold: {self.confidence_threshold}"
        )
        return f"""
            type: "DetectionOutput"
            detection_output_param {{
              num_classes: {self.num_classes}
              share_location: {str(self.share_location).lower()}
              background_label_id: {self.background_label_id}
              code_type: {self.code_type}
              variance_encoded_in_target: {str(self.variance_encoded_in_target).lower()}
              keep_top_k: {self.keep_top_k} {threshold}
              {"clip: true" if self.clip else ""}
              objectness_score: {self.objectness_score}
              {"use_polygon: true" if self.use_polygon else ""}
              nms_param {{ nms_threshold: {self.nms_threshold} eta: {self.eta} {top_k} }}
            }}
        """


def detect(
    settings: Settings,
    loc: Array,
    conf: Array,
    prior: Array,
    arm_conf: Array | None = None,
    arm_loc: Array | None = None,
) -> Array:
    """The top's rows, (1, 1, K, 7)."""
    s, count = settings, prior.shape[2] // 4
    boxes_of = loc.reshape(len(loc), count, -1, 12 if s.use_polygon else 4)
    scores_of = conf.reshape(len(conf), count, s.num_classes).copy()
    rows = []
    for image in range(len(loc)):
        found = []
        anchors = prior.copy()
        if arm_loc is not None:
            for i in range(count):
                moved = decode(s, arm_loc[image, 4 * i : 4 * i + 4], prior, i)
                anchors[0, 0, 4 * i : 4 * i + 4] = moved
        if arm_conf is not None:
            empty = arm_conf[image, 1::2] < np.float32(s.objectness_score)
            scores_of[image, empty] = np.eye(1, s.num_classes)
        for label in range(s.num_classes):
            if label == s.background_label_id:
                continue
            boxes = [
                decode(s, boxes_of[image, i, 0 if s.share_location else label, :4], anchors, i)
                for i in range(count)
            ]
            quadrangles = [corners(boxes_of[image, i, 0], prior, i) for i in range(count)]
            if s.clip:
                boxes = [[min(max(edge, 0.0), 1.0) for edge in box] for box in boxes]
            scores = scores_of[image, :, label]
            found += [
                (image, label, scores[i], *boxes[i], *(quadrangles[i] if s.use_polygon else []))
                for i in suppress(s, boxes, scores)
            ]
        if -1 < s.keep_top_k < len(found):
            best = sorted(found, key=lambda row: -row[2])[: s.keep_top_k]
            found = [row for row in found if row in best]
        rows += found
    if not rows:
        width = 15 if s.use_polygon else 7
        rows = [(image, *[-1] * (width - 1)) for image in range(len(loc))]
    return np.array(rows, np.float64)[None, None]


def decode(s: Settings, loc: Array, prior: Array, index: int) -> list[float]:
    box, variance = prior[0, :, 4 * index : 4 * index + 4]
    offset = loc * (1 if s.variance_encoded_in_target else variance)
    width, height = box[2] - box[0], box[3] - box[1]
    if s.code_type == "CORNER":
        return list(box + offset)
    if s.code_type == "CORNER_SIZE":
        return list(box + offset * [width, height, width, height])
    x = (box[0] + box[2]) / 2 + offset[0] * width
    y = (box[1] + box[3]) / 2 + offset[1] * height
    w, h = exp(offset[2]) * width, exp(offset[3]) * height
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def corners(loc: Array, prior: Array, index: int) -> list[float]:
    """The quadrangle of TextBoxes++: corners (x, y), clockwise from the top left."""
    box, variance = prior[0, :, 4 * index : 4 * index + 4]
    sides = (box[2] - box[0], box[3] - box[1])
    out = []
    for k, offset in enumerate(loc[4:]):
        axis, place = k % 2, box[[0, 1, 2, 1, 2, 3, 0, 3][k]]
        out.append(variance[axis] * offset * sides[axis] + place)
    return out


def suppress(s: Settings, boxes: list[list[float]], scores: Array) -> list[int]:
    lowest = -np.inf if s.confidence_threshold is None else np.float32(s.confidence_threshold)
    order = [int(i) for i in np.argsort(-scores, kind="stable") if scores[i] > lowest]
    if s.top_k is not None and s.top_k > -1:
        order = order[: s.top_k]
    kept: list[int] = []
    threshold = np.float32(s.nms_threshold)
    for i in order:
        if all(overlap(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
            if s.eta < 1 and threshold > 0.5:
                threshold *= np.float32(s.eta)
    return kept


def overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (area(a) + area(b) - shared)


def area(box: list[float]) -> float:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def random_inputs(
    rng: np.random.Generator, settings: Settings, images: int, priors: int
) -> list[npt.NDArray[np.float32]]:
    """Crowded boxes, some of them inverted with the corner codes; scores on a grid, all apart."""
    low = rng.uniform(0, 0.8, (priors, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.5, (priors, 2))], 1)
    variance = rng.uniform(0.1, 0.9, (priors, 4))
    prior = np.stack([boxes, variance]).reshape(1, 2, -1)
    location_classes = 1 if settings.share_location else settings.num_classes
    values = 12 if settings.use_polygon else 4
    loc = rng.normal(0, 0.4, (images, priors * location_classes * values))
    size = images * priors * settings.num_classes
    conf = (rng.permutation(size) / size - 0.3).reshape(images, -1)
    return [x.astype(np.float32) for x in (loc, conf, prior)]


def random_refinement(
    rng: np.random.Generator, images: int, priors: int
) -> list[npt.NDArray[np.float32]]:
    """Scores and offsets of RefineDet's anchor refinement."""
    conf, loc = rng.uniform(0, 1, (images, 2 * priors)), rng.normal(0, 0.4, (images, 4 * priors))
    return [conf.astype(np.float32), loc.astype(np.float32)]
