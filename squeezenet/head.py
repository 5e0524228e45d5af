"""How a new classifier begins: as a mixture of the old one's classes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from caffe2torch.training.distributed import Team
from squeezenet.data import BadImages, Draw, ImageDataset, checked, load_batches
from squeezenet.evaluate import Predict
from squeezenet.feed import Feed

IMAGES_A_CLASS = 128
"""Looked at in the mean: enough for what an average class looks like, soon done for a large set."""


@torch.no_grad()
def mix_classifier(
    new: nn.Conv2d,
    old: nn.Conv2d,
    predict: Predict,
    dataset: ImageDataset,
    *,
    batch_size: int,
    workers: int,
    bad: BadImages,
    team: Team,
) -> None:
    """Fill ``new`` with sum_k p(k | c) w_k for class c, where w_k is what ``old`` has for class k.

    p(k | c) is the mean probability that ``predict``, the net with the old classifier, gives class
    k in images of c: a class begins as what its images are taken for. What the old classifier
    knows of them is kept, where one filled at random has to learn it anew. A class without a
    usable image stays as it is. The processes of the team share the images out, and all get the
    same numbers.
    """
    sums = torch.zeros(new.out_channels, 1 + old.out_channels, dtype=torch.float64)
    sums = sums.to(predict.device)
    draws = _draws(len(dataset), IMAGES_A_CLASS * new.out_channels, batch_size, team)
    batches = load_batches(dataset, draws, workers=workers, device=predict.device)
    feed = Feed(dataset.transform, predict.device, channels_last=predict.channels_last)
    for batch in feed(checked(batches, dataset, new.out_channels, bad)):
        if len(batch.labels):
            shares = predict(batch.images).softmax(1).double()
            counted = torch.cat([torch.ones_like(shares[:, :1]), shares], 1)
            sums.index_add_(0, batch.labels, counted)
    sums = team.sum(sums)
    seen = sums[:, 0] > 0
    mixture = (sums[seen, 1:] / sums[seen, :1]).to(old.weight)
    new.weight[seen] = torch.einsum("ck,kihw->cihw", mixture, old.weight)
    assert new.bias is not None
    assert old.bias is not None
    new.bias[seen] = mixture @ old.bias


def _draws(size: int, most: int, batch_size: int, team: Team) -> Iterator[list[Draw]]:
    """This process's batches of ``most`` images from all over the data set."""
    indices = np.random.default_rng(0).permutation(size)[:most][team.rank :: team.world]
    for first in range(0, len(indices), batch_size):
        yield [(0, int(index)) for index in indices[first : first + batch_size]]
