"""Batches from worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from caffe2torch.errors import ReadError
from squeezenet.data import BadImages, Batch, ImageDataset, collate
from squeezenet.sampler import Draw


def make_loader(
    dataset: ImageDataset, batches: Iterable[list[Draw]], *, workers: int, pin: bool = False
) -> DataLoader[Any]:
    """Load the batches that a sampler names, with ``workers`` processes (0: in this one)."""
    if workers:
        # Here and not in the workers: a fork has OpenCV's pool without its threads, and to
        # change their number there waits for them forever.
        cv2.setNumThreads(1)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        prefetch_factor=4 if workers else None,
        # A generator of its own keeps the loader from drawing on the training's random state.
        generator=torch.Generator(),
    )


def checked(
    batches: Iterable[Batch], dataset: ImageDataset, num_classes: int, bad: BadImages
) -> Iterator[Batch]:
    """The batches, their bad images noted; a label that the net has no class for is an error."""
    for batch in batches:
        bad.note(batch.bad)
        for label, index in zip(batch.labels.tolist(), batch.indices.tolist(), strict=True):
            if label >= num_classes:
                raise ReadError(
                    f"{dataset.source.where(index)}: there is no label {label} among "
                    f"{num_classes} classes: correct the list or set --num-classes"
                )
        yield batch
