"""JPEGs decoded where the model computes, by torchvision: on a GPU by nvJPEG, on a CPU by libjpeg.

Workers hand over the bytes of files and say, by the sizes in their headers, what is to be cut out.
The device resizes by the formula of OpenCV's bicubic interpolation in floats, where OpenCV computes
in integers, and nvJPEG transforms and enlarges colours in a way of its own: pixels differ a little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from caffe2torch.errors import ReadError, first_line
from caffe2torch.images import ImageError, decode_image
from caffe2torch.preprocessing import Window
from squeezenet.jpeg import Jpeg

if TYPE_CHECKING:
    from squeezenet.preprocess import Cut

TOGETHER = 64
"""Images that are decoded at a time: as many are in the device's memory whole."""


def pack(cuts: Sequence[Cut]) -> tuple[Tensor, Tensor]:
    """The bytes of cuts, of files or of pixels, one after another; and a row of numbers for each.

    The row has a Window's part, size and start, and how many bytes there are, below 0 if of pixels.
    """
    rows, pieces = [], [np.empty(0, np.uint8)]
    for image, window, _ in cuts:
        piece: Any = image.data if isinstance(image, Jpeg) else image.reshape(-1)
        size = len(piece) if isinstance(image, Jpeg) else -len(piece)
        rows.append((*window.part, *window.size, *window.start, size))
        pieces.append(piece)
    numbers = torch.tensor(rows, dtype=torch.int64).reshape(-1, 9)
    return torch.from_numpy(np.concatenate(pieces)), numbers


class DeviceDecoder:
    """Decodes, resizes and cuts batches of what ``pack`` made.

    Raises ReadError where torchvision is missing or cannot decode on the device.
    """

    def __init__(self, device: torch.device, crop: int) -> None:
        try:
            from torchvision.io import decode_jpeg
        except ImportError:
            raise ReadError(
                "--decode torchvision needs torchvision, of the version that fits this torch: "
                'pip install "caffe2torch[decode]"'
            ) from None
        self.device, self.crop = device, crop
        self._decode = partial(decode_jpeg, mode="RGB", device=device)
        grey = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1]
        try:
            self._decode([torch.from_numpy(grey.reshape(-1))])
        except (AttributeError, RuntimeError, TypeError) as error:  # Before 0.20 it takes no lists.
            raise ReadError(
                f"this torchvision cannot decode JPEGs on {device} ({first_line(error)}): install "
                "the version that fits this torch, 0.20 or later, for a GPU with nvJPEG, or "
                "take --decode exact"
            ) from error

    def __call__(
        self, data: Tensor, numbers: Tensor, where: Callable[[int], str]
    ) -> tuple[Tensor, dict[int, str]]:
        """The cuts (N, crop, crop, 3) on the device, blue first, and why some could not be made.

        What torchvision cannot decode is decoded here as the workers do. ``where`` names an image.
        """
        rows = numbers.tolist()
        pieces = torch.split(data, [abs(row[-1]) for row in rows])
        images = self._images([p for p, row in zip(pieces, rows, strict=True) if row[-1] > 0])
        cuts = torch.zeros(len(rows), 3, self.crop, self.crop, device=self.device)
        reasons = {}
        for n, (piece, (*place, size)) in enumerate(zip(pieces, rows, strict=True)):
            if size < 0:
                pixels = piece.reshape(self.crop, self.crop, 3)
            else:
                window = Window(tuple(place[:4]), tuple(place[4:6]), tuple(place[6:]), (0, 0))
                image = next(images)
                if image is not None:
                    cuts[n] = self._cut(image, window)
                    continue
                try:
                    whole = decode_image(piece.numpy(), where(n))
                except ImageError as error:
                    reasons[n] = str(error)
                    continue
                pixels = torch.from_numpy(window.take(whole, (self.crop, self.crop)))
            cuts[n] = pixels.flip(2).permute(2, 0, 1)
        return cuts.round_().clamp_(0, 255).to(torch.uint8).flip(1).permute(0, 2, 3, 1), reasons

    def _images(self, files: list[Tensor]) -> Iterator[Tensor | None]:
        """The images (3, H, W) on the device, red first; None for what is not decoded there."""
        for first in range(0, len(files), TOGETHER):
            yield from self._together(files[first : first + TOGETHER])

    def _together(self, files: list[Tensor]) -> list[Tensor | None]:
        if self.device.type == "cuda":
            # torchvision decodes in a stream of its own, into memory that this one may still read.
            torch.cuda.current_stream(self.device).synchronize()
        try:
            return list(self._decode(files))
        except RuntimeError:  # Which says nothing about the others.
            if len(files) == 1:
                return [None]
            return [image for file in files for image in self._together([file])]

    def _cut(self, image: Tensor, window: Window) -> Tensor:
        """The cut (3, crop, crop) of a window, not yet rounded."""
        top, left, height, width = window.part
        part = image[None, :, top : top + height, left : left + width].float()
        if window.resizes:
            part = F.interpolate(part, window.size, mode="bicubic", align_corners=False)
        top, left = window.start
        return part[0, :, top : top + self.crop, left : left + self.crop]
