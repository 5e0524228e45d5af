"""The detections of YOLO nets as eric612/MobileNet-YOLO computes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe2torch.layers._runtime.arrays import refuse_trace


def yolo_detections(
    *maps: Tensor,
    anchors: Sequence[Sequence[Sequence[float]]],
    num_classes: int,
    softmax: bool,
    confidence_threshold: float,
    nms_threshold: float,
) -> Tensor:
    """Rows (0, label, score, xmin, ymin, xmax, ymax), as (1, 1, K, 7).

    ``anchors`` are, for each map, the widths and heights of its boxes in cells. With
    ``softmax`` a box has its best class alone, without it every class by its sigmoid.
    """
    parts = [
        yolo_boxes(x, sizes, num_classes)
        for x, sizes in zip(maps, anchors, strict=True)
    ]
    boxes, objects, classes = (torch.cat(p) for p in zip(*parts, strict=True))
    if softmax:
        best, labels = classes.softmax(1).max(1)
        scores = objects.sigmoid() * best
        found = scores >= confidence_threshold
    else:
        scores = (objects.sigmoid()[:, None] * classes.sigmoid()).flatten()
        boxes = boxes.repeat_interleave(num_classes, 0)
        labels = torch.arange(num_classes, device=boxes.device).repeat(len(objects))
        found = scores > confidence_threshold
    boxes, scores, labels = boxes[found], scores[found], labels[found]
    order = scores.sort(stable=True, descending=True).indices
    kept = order[suppress_any_class(boxes[order], nms_threshold)]
    return yolo_rows(boxes[kept], scores[kept], labels[kept], len(maps[0]))


def yolo_boxes(
    x: Tensor, sizes: Sequence[Sequence[float]], num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 4), objectness (M) and classes (M, C) of ``x``, by image, cell, anchor.

    A box is the centre, the width and the height, as fractions of the map.
    """
    images, channels, height, width = x.shape
    x = x.reshape(images, len(sizes), channels // len(sizes), height, width)
    x = x.permute(0, 3, 4, 1, 2)
    rows = torch.arange(height, device=x.device)[:, None, None]
    columns = torch.arange(width, device=x.device)[:, None]
    anchors = torch.tensor(sizes, dtype=x.dtype, device=x.device)
    box = [
        (columns + x[..., 0].sigmoid()) / width,
        (rows + x[..., 1].sigmoid()) / height,
        x[..., 2].exp() * anchors[:, 0] / width,
        x[..., 3].exp() * anchors[:, 1] / height,
    ]
    classes = x[..., 5 : 5 + num_classes]
    return (
        torch.stack(box, -1).reshape(-1, 4),
        x[..., 4].flatten(),
        classes.reshape(-1, num_classes),
    )


def suppress_any_class(boxes: Tensor, threshold: float) -> Tensor:
    """The places of the boxes (K, 4), best first, that stay.

    A box goes if it overlaps an earlier one that stays by the threshold or more.
    """
    refuse_trace()
    left = torch.arange(len(boxes), device=boxes.device)
    kept = [left[:0]]
    while len(left):
        kept.append(left[:1])
        overlap = centred_overlap(boxes[left[0]], boxes[left[1:]])
        left = left[1:][~(overlap >= threshold)]
    return torch.cat(kept)


def centred_overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of ``box`` (4) and ``boxes`` (K, 4): (K)."""
    low = torch.maximum(box[:2] - box[2:] / 2, boxes[:, :2] - boxes[:, 2:] / 2)
    high = torch.minimum(box[:2] + box[2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2)
    size = high - low
    shared = torch.where((size < 0).any(1), 0.0, size.prod(1))
    return shared / (box[2] * box[3] + boxes[:, 2] * boxes[:, 3] - shared)


def yolo_rows(boxes: Tensor, scores: Tensor, labels: Tensor, images: int) -> Tensor:
    """The rows of these boxes; if there is none, a row (image, -1, ..) an image."""
    if not len(boxes):
        rows = boxes.new_full((images, 7), -1.0)
        rows[:, 0] = torch.arange(images, device=boxes.device)
        return rows[None, None]
    centre, half = boxes.chunk(2, 1)
    half = half / 2
    head = torch.stack([torch.zeros_like(scores), labels + 1, scores], 1)
    return torch.cat([head, centre - half, centre + half], 1)[None, None]


def activate_region(x: Tensor, num: int, coords: int) -> Tensor:
    """``x`` (N, num * C, H, W), centres, objectness and classes of boxes activated."""
    boxes = x.reshape(x.shape[0], num, -1, *x.shape[2:])
    centre, size, objects, classes = boxes.tensor_split((2, coords, coords + 1), 2)
    parts = [centre.sigmoid(), size, objects.sigmoid(), classes.softmax(2)]
    return torch.cat(parts, 2).flatten(1, 2)
