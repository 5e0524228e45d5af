"""The data set that serves labelled images, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.images import ImageError, Pixels, Sample, read_image
from squeezenet.sampler import Draw
from squeezenet.transforms import Transform


class ImageSource(Protocol):
    """Labelled images by index; ``read`` raises ImageError for one that cannot be used."""

    def __len__(self) -> int:
        """The number of images, bad ones included."""

    def read(self, index: int) -> tuple[Pixels, int]:
        """The image as uint8 (H, W, 3), blue first, and its label."""

    def where(self, index: int) -> str:
        """What a user needs to find the image: its path, and its line in the list."""


class FileSource:
    """Images in files of their own."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> tuple[Pixels, int]:
        """Decode the file, colours in OpenCV's order."""
        sample = self.samples[index]
        assert sample.label is not None  # Lists and folders give one.
        return read_image(sample.path), sample.label

    def where(self, index: int) -> str:
        """The path, and ``list:line`` if a list names it."""
        sample = self.samples[index]
        return f"{sample.path} ({sample.line})" if sample.line else str(sample.path)


class Bad(NamedTuple):
    """An image that could not be used, and why."""

    where: str
    reason: str


class Batch(NamedTuple):
    """Images (N, 3, H, W), labels (N), indices in the source, and what had to be left out."""

    images: Tensor
    labels: Tensor
    indices: Tensor
    bad: list[Bad]


class ImageDataset(Dataset[Any]):
    """Serves the sample that a draw (epoch, index) names, transformed.

    The transform's random numbers depend on the seed and the draw alone, so the order and
    the number of workers change nothing. Without a seed it is the test transform. A bad
    image is served as a Bad.
    """

    def __init__(self, source: ImageSource, transform: Transform, *, seed: int | None) -> None:
        self.source = source
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, draw: Draw) -> Any:
        epoch, index = draw
        try:
            bgr, label = self.source.read(index)
            rng = None if self.seed is None else np.random.default_rng((self.seed, epoch, index))
            return self.transform(bgr, rng), label, index
        except ImageError as error:
            return Bad(self.source.where(index), str(error))


def collate(items: Sequence[Any]) -> Batch:
    """Stack samples; bad ones are set apart and not replaced, so that a batch may be short."""
    good = [item for item in items if not isinstance(item, Bad)]
    images = [torch.from_numpy(image) for image, _, _ in good]
    return Batch(
        torch.stack(images) if images else torch.empty(0),
        torch.tensor([label for _, label, _ in good], dtype=torch.int64),
        torch.tensor([index for _, _, index in good], dtype=torch.int64),
        [item for item in items if isinstance(item, Bad)],
    )


class BadImages:
    """Counts bad images, each once, and reports or refuses them as ``--on-bad-image`` says."""

    def __init__(self, action: str, report: Callable[[str], None]) -> None:
        self.action = action
        self.report = report
        self.seen: dict[str, str] = {}

    def note(self, bad: Sequence[Bad]) -> None:
        """Report each image that was not seen before; raise if bad images are to fail."""
        for where, reason in bad:
            if self.action == "fail":
                raise BadImageError(
                    f"{where}: {reason}; --on-bad-image skip leaves such images out"
                )
            if where not in self.seen:
                self.seen[where] = reason
                self.report(f"bad image, skipped: {where}: {reason}")

    def __len__(self) -> int:
        return len(self.seen)


class BadImageError(Caffe2TorchError):
    """An image cannot be used, and none may be left out."""
