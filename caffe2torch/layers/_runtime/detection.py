"""The detections of an SSD net."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe2torch.layers._runtime.arrays import is_exporting, is_tracing
from caffe2torch.layers._runtime.boxes import (
    decode_boxes,
    move_corners,
    suppress,
    suppress_recorded,
)


def detection_output(
    loc: Tensor,
    conf: Tensor,
    prior: Tensor,
    arm_conf: Tensor | None = None,
    arm_loc: Tensor | None = None,
    *,
    num_classes: int,
    background: int,
    share_location: bool,
    code_type: str,
    use_variance: bool,
    clip: bool,
    objectness_score: float,
    polygons: bool,
    confidence_threshold: float,
    nms_threshold: float,
    eta: float,
    top_k: int,
    keep_top_k: int,
    cells: tuple[int, int] | None = None,
) -> Tensor:
    """Rows (image, label, score, xmin, ymin, xmax, ymax), as (1, 1, K, 7).

    With ``polygons`` rows end with four corners, and offsets have 12 values, not 4.
    With ``cells``, a map's width and the priors of a cell, they end with the prior's
    number in its cell and the cell's column and row.
    ``loc`` (N, 4P) or (N, P * classes * 4), ``conf`` (N, P * classes), ``prior``
    (1, 2, 4P); ``arm_conf`` (N, 2P) and ``arm_loc`` (N, 4P) refine these. Without any
    detection there is a row (image, -1, ..) for each image.
    """
    dtype = loc.dtype
    # Caffe's boxes and scores are float32 here, whatever the net's type is.
    loc, conf, prior = loc.float(), conf.float(), prior.float()
    batch, priors = len(loc), (*prior.shape, 1, 1)[2] // 4
    classes = [label for label in range(num_classes) if label != background]
    prior = prior.reshape(-1)[: priors * 8].reshape(2, priors, 4)
    values = 12 if polygons else 4
    loc = loc.reshape(batch, priors, -1, values).transpose(1, 2)
    if not share_location:
        loc = loc[:, classes]
    variance = prior[1] if use_variance else 1.0
    anchors = prior[0]
    if arm_loc is not None:
        refined = arm_loc.to(loc).reshape(batch, 1, priors, 4)
        anchors = decode_boxes(refined, anchors, variance, code_type)
    boxes = decode_boxes(loc[..., :4], anchors, variance, code_type)
    if clip:
        boxes = boxes.clamp(0, 1)
    if polygons:
        boxes = torch.cat([boxes, move_corners(loc[..., 4:], prior[0], prior[1])], -1)
    if cells is not None:
        number = torch.arange(priors, device=loc.device)
        cell = number // cells[1]
        place = [number % cells[1], cell % cells[0], cell // cells[0]]
        places = torch.stack(place, -1).to(boxes).expand(*boxes.shape[:2], -1, -1)
        boxes = torch.cat([boxes, places], -1)
    boxes = boxes.expand(-1, len(classes), -1, -1)
    scores = conf.reshape(batch, priors, -1).transpose(1, 2)[:, classes]
    if arm_conf is not None:
        empty = arm_conf.to(loc).reshape(batch, 1, priors, 2)[..., 1] < objectness_score
        nothing = torch.tensor([float(label == 0) for label in classes]).to(loc)
        scores = torch.where(empty, nothing[:, None], scores)
    scores = scores.where(scores > confidence_threshold, -torch.inf)
    scores, order = scores.sort(stable=True, dim=-1, descending=True)
    candidates = scores > -torch.inf
    count = priors
    if not is_tracing():  # Which would keep the number of the example.
        count = int(candidates.flatten(0, 1).any(0).sum())
    if top_k >= 0:
        count = min(count, top_k)
    scores, candidates = scores[..., :count], candidates[..., :count]
    boxes = boxes.gather(
        2, order[..., :count, None].expand(-1, -1, -1, boxes.shape[-1])
    )
    groups = boxes[..., :4].flatten(0, 1), candidates.flatten(0, 1)
    choose = suppress_recorded if is_exporting() else suppress
    kept = choose(*groups, nms_threshold, eta)
    kept = kept.reshape(candidates.shape)
    if keep_top_k >= 0:
        kept = keep_best(kept, scores, keep_top_k)
    return detection_rows(kept, classes, scores, boxes)[None, None].to(dtype)


def keep_best(kept: Tensor, scores: Tensor, count: int) -> Tensor:
    """Of the boxes ``kept`` (N, C, K), the ``count`` of each image that score best."""
    ranked = scores.where(kept, -torch.inf).flatten(1)
    order = ranked.sort(stable=True, dim=-1, descending=True).indices[:, :count]
    best = torch.zeros_like(ranked).scatter(1, order, 1.0)
    return kept & (best.reshape(kept.shape) > 0)


def detection_rows(
    kept: Tensor, classes: list[int], scores: Tensor, boxes: Tensor
) -> Tensor:
    """The rows of the boxes that the mask ``kept`` (N, C, K) has, or of none."""
    image, label, place = kept.nonzero(as_tuple=True)
    labels = torch.tensor(classes, device=boxes.device)[label]
    found = scores[image, label, place]
    head = torch.stack([image.float(), labels.float(), found], 1)
    rows = torch.cat([head, boxes[image, label, place]], 1)
    images = torch.arange(len(boxes), device=boxes.device, dtype=boxes.dtype)
    no_rows = boxes.new_full((len(boxes), rows.shape[1] - 1), -1.0)
    no_rows = torch.cat([images[:, None], no_rows], 1)
    # By a mask, not by a branch, which a trace would take as its example did.
    chosen = torch.cat([image >= 0, (~kept.any()).expand(len(boxes))])
    return torch.cat([rows, no_rows])[chosen]
