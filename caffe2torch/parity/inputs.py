"""What the engines are fed: images made as the net's data layer did, or random numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from caffe2torch.errors import ParityError
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.lower.batch import batch_of
from caffe2torch.preprocessing import Preprocessing

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp", ".JPEG", ".JPG", ".PNG"}
RESIZE_MARGIN = 256 / 227
"""Caffe's ImageNet tools resize to 256 and crop 227 from the centre; others in proportion."""
SPREAD = 50.0
"""Standard deviation of the random pixels, about that of photographs."""
SEED = 0
BATCH = 20
"""Most images a batch."""
BATCH_BYTES = 1 << 28
"""What the blobs of one batch may take in one engine, which shows all of them at once."""


@dataclass(frozen=True)
class Batch:
    """One batch of inputs by blob; names, labels and files where they come from images."""

    inputs: dict[str, FloatArray]
    names: Sequence[str] = ()
    labels: Sequence[int] = ()
    paths: Sequence[Path] = ()


def random_batches(graph: Graph, count: int) -> Iterator[Batch]:
    """``count`` batches of seeded random inputs in the declared shapes.

    Inputs of an image net (3 channels) span what its images do after the mean is
    subtracted, others a unit normal; indices are 0, which is one of every table.
    """
    rng = np.random.default_rng(SEED)
    record = graph.preprocessing or Preprocessing()
    spread = SPREAD * abs(record.scale) / min(record.std, default=1.0)
    for _ in range(count):
        yield Batch(
            {
                i.name: np.zeros(i.shape, np.float32)
                if i.name in graph.index_inputs
                else (
                    rng.standard_normal(i.shape)
                    * (spread if len(i.shape) == 4 and i.shape[1] == 3 else 1)
                ).astype(np.float32)
                for i in graph.inputs
            }
        )


def image_batches(graph: Graph, folder: str | os.PathLike[str]) -> Iterator[Batch]:
    """The images of ``folder`` as input of a net with one image input.

    A ``val_list.txt`` (``file label`` a line) in the folder or beside it gives order and
    labels; otherwise the images are taken by name.
    """
    if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4:
        raise ParityError("--images needs a net with one image input; use --random.")
    target = graph.inputs[0]
    files = list_images(folder)
    batch = batch_size(graph, len(files))
    for start in range(0, len(files), batch):
        part = files[start : start + batch]
        data = np.stack([image_input(path, target.shape, graph.preprocessing) for path, _ in part])
        labels = [label for _, label in part if label is not None]
        yield Batch(
            {target.name: data},
            [path.name for path, _ in part],
            labels if len(labels) == len(part) else (),
            [path for path, _ in part],
        )


def batch_size(graph: Graph, count: int) -> int:
    """How many of ``count`` images to feed at once, so that memory stays bounded.

    Raises ParityError if the net is made for one batch size and ``count`` is no multiple.
    """
    declared = graph.inputs[0].shape[0]
    if batch_of(graph) is None:
        if count % declared:
            raise ParityError(
                f"the net works for batches of {declared} only, and {count} images do not divide "
                f"by {declared}; give a number of images that does, or another --input-shape."
            )
        return declared
    item = sum(4 * prod(shape) for shape in graph.shapes.values()) // declared
    return max(1, min(BATCH, BATCH_BYTES // max(item, 1)))


def image_input(
    path: str | os.PathLike[str], shape: Sequence[int], record: Preprocessing | None
) -> FloatArray:
    """One image as (C, H, W) input: resize, centre crop, order of colours, mean, scale, std.

    Without a record the ImageNet mean of Caffe's models (104, 117, 123) is used for three
    channels.
    """
    import cv2

    _, channels, height, width = shape
    flag = cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    image = cv2.imread(os.fspath(path), flag)
    if image is None:
        raise ParityError(f"{path} cannot be decoded as an image. Remove it, or use --random.")
    size = (round(width * RESIZE_MARGIN), round(height * RESIZE_MARGIN))
    image = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    pixels = np.float32(image[top : top + height, left : left + width].reshape(height, width, -1))
    record = record or Preprocessing(mean=(104.0, 117.0, 123.0) if channels == 3 else ())
    if record.channel_order == "RGB":
        pixels = pixels[:, :, ::-1]
    if record.mean:
        pixels = pixels - np.asarray(record.mean, np.float32)
    pixels = pixels * np.float32(record.scale)
    if record.std:
        pixels = pixels / np.asarray(record.std, np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def list_images(
    folder: str | os.PathLike[str], listing: str | os.PathLike[str] | None = None
) -> list[tuple[Path, int | None]]:
    """The images of a folder with their labels, None where there are none.

    ``listing`` (``file label`` a line) gives order and labels; without it a ``val_list.txt``
    in the folder or beside it does, and else the images are taken by name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ParityError(f"{folder} is not a folder of images.")
    if listing is not None:
        try:
            return [_entry(folder, line) for line in _lines(Path(listing))]
        except (OSError, UnicodeDecodeError) as error:
            raise ParityError(f"cannot read the list {os.fspath(listing)}: {error}") from error
    for place in (folder, folder.parent):
        if (place / "val_list.txt").is_file():
            return [_entry(folder, line) for line in _lines(place / "val_list.txt")]
    files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not files:
        raise ParityError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}).")
    return [(path, None) for path in files]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _entry(folder: Path, line: str) -> tuple[Path, int | None]:
    name, _, label = line.strip().rpartition(" ")
    found = next((p for p in (folder / name, folder / "images" / name) if p.is_file()), None)
    if found is None or not label.isdigit():
        raise ParityError(f"the list line {line!r} does not name an image of {folder} and a label.")
    return found, int(label)
