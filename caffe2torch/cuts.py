"""Cuts of images as bytes, and the numbers that a device makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray


CPU = torch.device("cpu")


class Cuts(NamedTuple):
    """Cuts of the images of a batch, as they leave the process that reads them.

    ``pixels`` (N, C, H, W), in any order of memory, are uint8, a quarter of what floats would be,
    or float32 where the images are. ``places`` (N, 3), int64, has the row and the column of the
    image where each cut begins, which says where a mean image is cut, and whether it is mirrored
    (0 or 1). Both are on the CPU.
    """

    pixels: Tensor
    places: Tensor


class CutsToInput:
    """Makes a net's input of cuts: (pixel - mean) * scale / std in float32, sometimes mirrored.

    - ``mean`` is None (nothing), one number a channel or one for all (C or 1, 1, 1), or an image
      (C, height, width) of which each cut has the part at its place.
    - ``std`` is empty (1) or one number a channel.
    - ``rgb`` (false) exchanges the first and the last channel of the pixels, not of the mean.

    Each operation is rounded on its own, so that the bits are the same on every device and as of
    one image after the other (Caffe: data_transformer.cpp). The result is on ``device``, (N, C, H,
    W), contiguous in the order of ``channels_last`` (false).
    """

    def __init__(
        self,
        device: torch.device,
        mean: FloatArray | None,
        scale: float = 1.0,
        std: Sequence[float] = (),
        *,
        rgb: bool = False,
        channels_last: bool = False,
    ) -> None:
        self.device = device
        self.order = torch.channels_last if channels_last else torch.contiguous_format
        self.mean = None
        if mean is not None:
            image = torch.from_numpy(np.array(mean, np.float32))[None].to(device)
            self.mean = image.contiguous(memory_format=self.order)
        self.of_places = mean is not None and mean.shape[1:] != (1, 1)
        self.scale, self.rgb = scale, rgb
        self.std = torch.tensor(std, dtype=torch.float32, device=device)[:, None, None]

    def __call__(self, cuts: Cuts) -> Tensor:
        """The input that comes of ``cuts``, which stay as they are."""
        return self.one_by_one(cuts) if self.device.type == "cpu" else self.at_once(cuts)

    def one_by_one(self, cuts: Cuts) -> Tensor:
        """On a CPU: the numbers of one image stay in its cache from one operation to the next."""
        channels, height, width = cuts.pixels.shape[1:]
        made = torch.empty(cuts.pixels.shape, memory_format=self.order)
        mean = self.mean
        if mean is not None and not self.of_places:
            # A row of them, as operations on a few numbers at a time are slow.
            mean = torch.empty(1, channels, 1, width, memory_format=self.order).copy_(mean)
        for row, (top, left, mirrored) in enumerate(cuts.places.tolist()):
            image = cuts.pixels[row : row + 1].contiguous(memory_format=self.order)
            if self.rgb:
                image = image.flip(1)
            window = mean
            if mean is not None and self.of_places:
                window = mean[:, :, top : top + height, left : left + width]
            if mirrored:
                image = image.flip(3)
                window = window.flip(3) if window is not None else None
            self._finish(made[row : row + 1].copy_(image), window)
        return made

    def at_once(self, cuts: Cuts) -> Tensor:
        """On a GPU: one operation for all images, and nothing that waits for it."""
        height, width = cuts.pixels.shape[2:]
        any_mirrored = bool(cuts.places[:, 2].any())
        pixels, mean = cuts.pixels.to(self.device, non_blocking=True), self.mean
        places = cuts.places
        if any_mirrored or self.of_places:
            places = places.to(self.device, non_blocking=True)
        mirrored = places[:, 2].bool()[:, None, None, None]
        if any_mirrored:
            pixels = torch.where(mirrored, pixels.flip(3), pixels)
        if self.rgb:
            pixels = pixels.flip(1)
        if mean is not None and self.of_places:
            windows = mean[0].unfold(1, height, 1).unfold(2, width, 1).permute(1, 2, 0, 3, 4)
            mean = windows[places[:, 0], places[:, 1]]
            if any_mirrored:
                mean = torch.where(mirrored, mean.flip(3), mean)
        # Sorted while they are bytes, then made floats, which have memory of their own.
        values = torch.empty(pixels.shape, device=self.device, memory_format=self.order)
        values.copy_(pixels.contiguous(memory_format=self.order))
        self._finish(values, mean)
        return values

    def _finish(self, values: Tensor, mean: Tensor | None) -> None:
        if mean is not None:
            values -= mean
        if self.scale != 1.0:
            values *= self.scale
        if len(self.std):
            values /= self.std
