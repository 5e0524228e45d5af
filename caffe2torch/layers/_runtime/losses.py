"""Caffe's losses and metrics, each summed and normalised as its layer does it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe2torch.layers._runtime.elementwise import constant, root

FLT_MIN = 1.1754943508222875e-38
LOG_THRESHOLD = 1e-20


def softmax_with_loss(
    scores: Tensor, labels: Tensor, dim: int, ignore_label: int | None, mode: str
) -> Tensor:
    """The multinomial logistic loss of scores."""
    dim %= scores.ndim
    values, _, valid = pick(scores.log_softmax(dim), labels, dim, ignore_label)
    losses = -floored(values, math.log(FLT_MIN))
    return normalized(losses, valid, mode, math.prod(scores.shape[:dim]))


def multinomial_logistic_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The logistic loss of probabilities."""
    probabilities = probabilities.reshape(probabilities.shape[0], -1)
    picked = probabilities.gather(1, labels.reshape(-1, 1).long())
    return -floored(picked, LOG_THRESHOLD).log().sum() / len(probabilities)


def infogain_loss(
    scores: Tensor,
    labels: Tensor,
    matrix: Tensor,
    dim: int,
    ignore_label: int | None,
    mode: str,
) -> tuple[Tensor, Tensor]:
    """The logistic loss of scores weighed by a row of ``matrix``; the probabilities.

    These have no gradient.
    """
    dim %= scores.ndim
    logs = scores.log_softmax(dim)
    _, index, valid = pick(logs, labels, dim, ignore_label)
    square = matrix.reshape(scores.shape[dim], scores.shape[dim])
    rows = square[index.movedim(dim, -1).squeeze(-1)]
    bounded = floored(logs, math.log(LOG_THRESHOLD)).movedim(dim, -1)
    losses = -(rows * bounded).sum(-1, keepdim=True).movedim(-1, dim)
    batch = math.prod(scores.shape[:dim])
    return normalized(losses, valid, mode, batch), constant(logs, logs.exp().detach())


def sigmoid_cross_entropy_loss(
    scores: Tensor, targets: Tensor, ignore_label: int | None, mode: str
) -> Tensor:
    """The cross entropy of the scores' sigmoid."""
    targets = targets.reshape(scores.shape)
    losses = -F.logsigmoid(-scores) - scores * targets
    valid = None if ignore_label is None else targets.long() != ignore_label
    return normalized(losses, valid, mode, scores.shape[0])


def euclidean_loss(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared distance, per item."""
    return (a - b.reshape(a.shape)).square().sum() / (2 * a.shape[0])


def smooth_l1_loss(
    a: Tensor, b: Tensor, inside: Tensor | None = None, outside: Tensor | None = None
) -> Tensor:
    """Squares of small differences and absolute values of large ones, per item."""
    difference = a - b.reshape(a.shape)
    if inside is not None:
        difference = difference * inside.reshape(a.shape)
    zero = difference.new_zeros(()).expand_as(a)
    losses = F.smooth_l1_loss(difference, zero, reduction="none")
    if outside is not None:
        losses = losses * outside.reshape(a.shape)
    return losses.sum() / a.shape[0]


def hinge_loss(scores: Tensor, labels: Tensor, power: int) -> Tensor:
    """The one-against-all hinge, per item."""
    scores = scores.flatten(1) if scores.ndim > 1 else scores.unsqueeze(1)
    labels = labels.flatten()[: len(scores)].long()
    sign = torch.ones_like(scores).scatter(1, labels.unsqueeze(1), -1)
    margins = 1 + sign * scores
    return torch.where(margins > 0, margins, 0).pow(power).sum() / len(scores)


def contrastive_loss(
    a: Tensor, b: Tensor, alike: Tensor, margin: float, legacy: bool
) -> Tensor:
    """The squared distance of like pairs; what unlike ones lack to the margin."""
    num = a.shape[0]
    squares = (a.reshape(num, -1) - b.reshape(num, -1)).square().sum(1)
    if legacy:
        apart = (margin - squares).relu()
    else:
        apart = (margin - root(squares, 1e-4)).relu().square()
    is_alike = alike.reshape(-1).long() != 0
    return torch.where(is_alike, squares, apart).sum() / (2 * num)


def accuracy(
    scores: Tensor, labels: Tensor, dim: int, top_k: int, ignore_label: int | None
) -> tuple[Tensor, Tensor]:
    """The share of positions whose label is among the best: of all, and by class."""
    dim %= scores.ndim
    values, index, valid = pick(scores, labels, dim, ignore_label)
    better = (scores >= values).sum(dim, keepdim=True) - 1
    hits = (better < top_k).to(scores.dtype)
    counted = hits.new_ones(hits.shape) if valid is None else valid.to(hits.dtype)
    hits = hits * counted
    zeros = scores.new_zeros(scores.shape[dim])
    per_class = zeros.scatter_add(0, index.flatten(), hits.flatten())
    count = zeros.scatter_add(0, index.flatten(), counted.flatten())
    share = hits.sum() / counted.sum().clamp(min=1)
    return share, per_class / count.clamp(min=1)


def pick(
    x: Tensor, labels: Tensor, dim: int, ignore_label: int | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The values of ``x`` along ``dim`` at ``labels``, the labels, where they count."""
    shape = list(x.shape)
    shape[dim] = 1
    index = labels.reshape(shape).long()
    valid = None if ignore_label is None else index != ignore_label
    if valid is not None:
        index = torch.where(valid, index, 0)
    return x.gather(dim, index), index, valid


def normalized(losses: Tensor, valid: Tensor | None, mode: str, batch: int) -> Tensor:
    """The sum of ``losses`` where ``valid``, over the count that ``mode`` says.

    VALID: by the losses that count; FULL: all; BATCH_SIZE: ``batch``; NONE: 1.
    """
    if valid is not None:
        losses = torch.where(valid, losses, 0)
    total = losses.sum()
    if mode == "VALID" and valid is not None:
        return total / valid.sum().clamp(min=1)
    counts = {"VALID": losses.numel(), "FULL": losses.numel(), "BATCH_SIZE": batch}
    return total / max(counts.get(mode, 1), 1)


def floored(x: Tensor, least: float) -> Tensor:
    """max(x, least) with the gradient of x: Caffe's gradients do not see the bound."""
    slope = (x - x.detach()).nan_to_num()  # 0, of infinity as well.
    return x.clamp(min=least).detach() + slope


def add_margin(x: Tensor, labels: Tensor, bias: float) -> Tensor:
    """``x`` (N, ..) with ``bias`` added to each label's score that is above -bias."""
    rows = x.flatten(1)
    picked = rows.detach().gather(1, labels.reshape(-1, 1).long())
    margin = torch.where(picked > -bias, bias, 0.0).to(x.dtype)
    change = torch.zeros_like(rows).scatter(1, labels.reshape(-1, 1).long(), margin)
    return (rows + change).reshape(x.shape)
