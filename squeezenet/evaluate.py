"""How well a model classifies a labelled set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import ReadError
from caffe2torch.training.distributed import ALONE, Team
from caffe2torch.training.precision import mixed, prefers_channels_last
from squeezenet.data import BadImages, ImageDataset, checked, eval_batches, load_batches
from squeezenet.feed import Feed

TOP = 5


@dataclass(frozen=True)
class Predict:
    """Images (N, 3, H, W) to logits (N, classes), both float32 on ``device``."""

    run: Callable[[Tensor], Tensor]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    channels_last: bool = False
    """The order of memory that is fastest for the images."""

    def __call__(self, images: Tensor) -> Tensor:
        """Run it."""
        return self.run(images)


@dataclass(frozen=True)
class Metrics:
    """The outcome of an evaluation: counts, the mean cross-entropy and the confusions.

    ``confusion[i, j]`` counts the images of class i that were taken for class j.
    """

    images: int
    top1: int
    top5: int
    loss: float
    confusion: Tensor
    bad_images: int = 0

    @property
    def accuracy(self) -> float:
        """The share of images whose best class is right."""
        return self.top1 / self.images if self.images else 0.0

    def per_class(self) -> list[dict[str, int]]:
        """For each class that occurs: its label, images and how many were right."""
        totals = self.confusion.sum(1).tolist()
        return [
            {"label": label, "images": total, "top1": int(self.confusion[label, label])}
            for label, total in enumerate(totals)
            if total
        ]

    def confusions(self, most: int = 10) -> list[dict[str, int]]:
        """The commonest mistakes, the commonest first."""
        wrong = self.confusion.clone().fill_diagonal_(0)
        pairs = [
            {"label": int(i), "taken_for": int(j), "images": int(wrong[i, j])}
            for i, j in wrong.nonzero()
        ]
        return sorted(pairs, key=lambda p: (-p["images"], p["label"], p["taken_for"]))[:most]

    def to_plain(self, names: Sequence[str] = ()) -> dict[str, Any]:
        """All of it as JSON values; with class names, labels get their names beside them."""
        share = max(self.images, 1)

        def named(row: dict[str, int]) -> dict[str, Any]:
            keys = [key for key in ("label", "taken_for") if key in row]
            return {**row, **{f"{key}_name": names[row[key]] for key in keys if names}}

        return {
            "images": self.images,
            "bad_images": self.bad_images,
            "top1": self.top1,
            "top5": self.top5,
            "top1_accuracy": self.top1 / share,
            "top5_accuracy": self.top5 / share,
            "loss": self.loss,
            "per_class": [named(row) for row in self.per_class()],
            "confusions": [named(row) for row in self.confusions()],
        }


def on_device(
    model: nn.Module,
    device: torch.device,
    *,
    precision: str = "fp32",
    channels_last: bool | None = None,
) -> Predict:
    """What runs a model on ``device``, its convolutions in ``precision``.

    The order of memory is the one that it prefers, unless ``channels_last`` says it.
    """
    model = model.to(device)
    if channels_last is None:
        channels_last = prefers_channels_last(model, device, precision)
    if channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types the method without it

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode(), mixed(device, precision):
            logits: Tensor = model(images.to(device))
            return logits.float()

    return Predict(run, device, channels_last)


def evaluate(
    predict: Predict,
    dataset: ImageDataset,
    num_classes: int,
    *,
    batch_size: int,
    workers: int,
    bad: BadImages,
    team: Team = ALONE,
) -> Metrics:
    """Classify a data set, which the processes of the team share out.

    An image is right in the top k if fewer than k classes score higher, a class before it in
    order and with an equal score being higher. Scores that are not numbers are wrong.
    Raises ReadError if no image can be used.
    """
    # Counted on the device, so that it is not waited for before the end.
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=predict.device)
    sums = torch.zeros(3, dtype=torch.float64, device=predict.device)
    known = len(bad)
    draws = eval_batches(len(dataset), batch_size, rank=team.rank, world=team.world)
    batches = load_batches(dataset, draws, workers=workers, device=predict.device)
    feed = Feed(dataset.transform, predict.device, channels_last=predict.channels_last)
    for batch in feed(checked(batches, dataset, num_classes, bad)):
        if not len(batch.labels):
            continue
        logits, labels = predict(batch.images), batch.labels
        ranks = rank_labels(logits, labels)
        sums[0] += F.cross_entropy(logits, labels, reduction="sum")
        sums[1] += (ranks < TOP).sum()
        others = logits.scatter(1, labels[:, None], -torch.inf)
        taken = torch.where(ranks == 0, labels, others.argmax(1))
        confusion.index_put_((labels, taken), torch.ones_like(labels), accumulate=True)
    sums[2] += len(bad) - known
    confusion, sums = team.sum(confusion).cpu(), team.sum(sums).cpu()
    images = int(confusion.sum())
    if not images:
        raise ReadError(
            f"none of the {len(dataset)} images could be used, such as {dataset.source.where(0)}"
        )
    return Metrics(
        images=images,
        top1=int(confusion.diagonal().sum()),
        top5=int(sums[1]),
        loss=float(sums[0]) / max(images, 1),
        confusion=confusion,
        bad_images=int(sums[2]),
    )


def rank_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes stand before each image's own."""
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    before = (classes < labels[:, None]) & (logits == own)
    # "Not lower or equal" rather than "higher", so that NaN never makes an image right.
    return (~(logits <= own) | before).sum(1)
