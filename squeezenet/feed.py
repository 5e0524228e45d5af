"""From batches of bytes to the net's input, on the device where the model computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from caffe2torch.cuts import Cuts, CutsToInput
from caffe2torch.training.side_stream import SideStream
from squeezenet.preprocess import Transform

if TYPE_CHECKING:
    from squeezenet.data import Batch


class Feed:
    """Makes the net's input of batches as ``Transform`` does of an image, with the same bits.

    Bytes go to the device, and there images are mirrored, put into the order of colours and of
    memory, centred and scaled, on a GPU in a stream of its own.
    """

    def __init__(
        self, transform: Transform, device: torch.device, *, channels_last: bool = False
    ) -> None:
        made, mean = transform.preprocessing, transform.mean_image
        if mean is None and made.mean:
            mean = np.array(made.mean, np.float32)[:, None, None]
        self.device, self.stream = device, SideStream(device)
        self.to_input = CutsToInput(
            device,
            mean,
            made.scale,
            made.std or (),
            rgb=made.channel_order == "RGB",
            channels_last=channels_last,
        )

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches with images (N, 3, H, W), float32, and labels on the device."""
        batches = iter(batches)

        def make() -> Batch | None:  # Asking for a batch may decode its images on the device.
            batch = next(batches, None)
            return None if batch is None else self._moved(batch)

        def tensors(made: Batch | None) -> tuple[object, ...]:
            return made or ()

        while (batch := self.stream(make, tensors)) is not None:
            yield batch

    def _moved(self, batch: Batch) -> Batch:
        labels = batch.labels.to(self.device, non_blocking=True)
        if not len(batch.labels):
            return batch._replace(images=batch.images.to(self.device), labels=labels)
        cuts = Cuts(batch.images.permute(0, 3, 1, 2), batch.places)
        return batch._replace(images=self.to_input(cuts), labels=labels)
