"""From batches of bytes to the net's input, on the device where the model computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from squeezenet.preprocess import Transform

if TYPE_CHECKING:
    from squeezenet.data import Batch


class Feed:
    """Makes the net's input of batches as ``Transform`` does of an image, with the same bits.

    Bytes go to the device, a quarter of what floats would be, and there images are mirrored, put
    into the order of colours and of memory, centred and scaled. On a GPU that happens in a
    stream of its own: as nothing in a training step waits for the GPU, the copy of a batch from
    pinned memory goes on while the step before it computes.
    """

    def __init__(
        self, transform: Transform, device: torch.device, *, channels_last: bool = False
    ) -> None:
        made, image = transform.preprocessing, transform.mean_image
        self.device = device
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.rgb = made.channel_order == "RGB"
        self.scale = made.scale
        # Numbers a channel, or the mean image: one for each place where a cut may lie.
        mean = np.array(made.mean or (0.0,), np.float32)[:, None, None] if image is None else image
        self.mean = torch.from_numpy(np.ascontiguousarray(mean)).to(device)
        self.of_places = image is not None
        std = torch.tensor(made.std, dtype=torch.float32, device=device)
        self.std = std[:, None, None] if made.std else None

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches with images (N, 3, H, W), float32, and labels on the device."""
        if self.device.type != "cuda":
            yield from map(self._moved, batches)
            return
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # untyped in torch
        batches = iter(batches)
        while True:
            with torch.cuda.stream(stream):  # Images may be decoded in it when they are asked for.
                batch = next(batches, None)
                if batch is None:
                    return
                moved = self._moved(batch)
            compute = torch.cuda.current_stream(self.device)
            compute.wait_stream(stream)
            for tensor in (moved.images, moved.labels):
                tensor.record_stream(compute)  # Its memory is not used again before that.
            yield moved

    def _moved(self, batch: Batch) -> Batch:
        labels = batch.labels.to(self.device, non_blocking=True)
        if not len(batch.labels):
            return batch._replace(images=batch.images.to(self.device), labels=labels)
        return batch._replace(images=self.to_input(batch.images, batch.places), labels=labels)

    def to_input(self, images: Tensor, places: Tensor) -> Tensor:
        """(pixels - mean) * scale / std of cuts (N, H, W, 3) at ``places``, both on the CPU."""
        any_mirrored = bool(places[:, 2].any())
        pixels = images.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        if any_mirrored or self.of_places:
            places = places.to(self.device, non_blocking=True)
        mirrored = places[:, 2].bool()[:, None, None, None]
        if any_mirrored and images.dtype == torch.uint8:
            pixels = torch.where(mirrored, pixels.flip(3), pixels)
        if self.rgb:
            pixels = pixels.flip(1)
        mean = self.mean
        if self.of_places:
            height, width = images.shape[1:3]
            windows = mean.unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
            mean = windows[places[:, 0], places[:, 1]]
            if any_mirrored:
                mean = torch.where(mirrored, mean.flip(3), mean)
        # Sorted while they are bytes, then made floats.
        values = pixels.contiguous(memory_format=self.order).to(torch.float32) - mean
        if self.scale != 1.0:
            values *= self.scale
        if self.std is not None:
            values /= self.std
        return values
