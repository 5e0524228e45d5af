"""Labelled images as lists or class folders name them, and the data set that serves them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from caffe2torch.errors import Caffe2TorchError, ReadError
from squeezenet.preprocess import ImageError, read_bgr
from squeezenet.sampler import Draw
from squeezenet.transforms import Transform

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)


class ImageSource(Protocol):
    """Labelled images by index; ``read`` raises ImageError for one that cannot be used."""

    def __len__(self) -> int:
        """The number of images, bad ones included."""

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """The image as uint8 (H, W, 3), blue first, and its label."""

    def where(self, index: int) -> str:
        """What a user needs to find the image: its path, and its line in the list."""


@dataclass(frozen=True)
class Sample:
    """One image file, its label and the line of the list that names it."""

    path: Path
    label: int
    line: str | None = None


class FileSource:
    """Images in files of their own."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Decode the file, colours in OpenCV's order."""
        sample = self.samples[index]
        return read_bgr(sample.path), sample.label

    def where(self, index: int) -> str:
        """The path, and ``list:line`` if a list names it."""
        sample = self.samples[index]
        return f"{sample.path} ({sample.line})" if sample.line else str(sample.path)


def read_list(path: Path, root: Path) -> list[Sample]:
    """Read a Caffe image list: a path below ``root`` and a label on each line.

    The label is what follows the last white space, so paths may hold spaces. Empty lines
    are skipped. Whether the files exist shows when they are read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ReadError(f"cannot read the list {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ReadError(f"the list {path} is not UTF-8 text: {error.reason}") from error
    lines = enumerate(text.split("\n"), 1)
    samples = [_parse_line(line, f"{path}:{n}", root) for n, line in lines if line.strip()]
    if not samples:
        raise ReadError(f"the list {path} names no image: it needs 'path label' on each line")
    return samples


def _parse_line(line: str, where: str, root: Path) -> Sample:
    match = re.fullmatch(r"\s*(\S[^\0]*?)\s+([0-9]{1,9})\s*", line)
    if match is None:
        raise ReadError(
            f"{where}: expected a path, a space and a label (0, 1, 2, ...), "
            f"found {line.strip()[:100]!r}"
        )
    return Sample(root / match[1], int(match[2]), where)


def scan_folders(root: Path) -> tuple[list[Sample], list[str]]:
    """The images of a tree ``root/class/image`` and the class names.

    Labels number the class folders in the order of their names. Files with another suffix
    than those of images are left out.
    """
    if not root.is_dir():
        raise ReadError(f"{root} is not a folder: give one that holds a folder a class")
    classes = sorted(child.name for child in root.iterdir() if child.is_dir())
    samples = [
        Sample(path, label)
        for label, name in enumerate(classes)
        for path in find_images(root / name)
    ]
    if not samples:
        raise ReadError(f"{root} holds no class folder with images in it")
    return samples, classes


def find_images(folder: Path) -> list[Path]:
    """All image files below a folder, by name."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


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
