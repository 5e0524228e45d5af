"""What the engines are fed: images made as the net's data layer did, or random numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from caffe2torch.errors import ParityError, ReadError
from caffe2torch.graph import Array, FloatArray, Graph, Shape
from caffe2torch.images import (
    LIST_NAME,
    SUFFIXES,
    ImageError,
    PathLike,
    Sample,
    find_images,
    read_image,
    read_list,
)
from caffe2torch.lower.batch import batch_of
from caffe2torch.preprocessing import Preprocessing, to_input

IMAGENET_MEAN = (104.0, 117.0, 123.0)
SPREAD = 50.0
"""Standard deviation of the random pixels, about that of photographs."""
SEED = 0
USUAL_PLANE = (224, 224)
"""Height and width of the image of a net without an image input."""
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
    subtracted, others a unit normal; what has a meaning by its name or its reader is as
    ``meant_values`` says.
    """
    rng = np.random.default_rng(SEED)
    record = graph.preprocessing or Preprocessing()
    spread = SPREAD * abs(record.scale) / min(record.std, default=1.0)
    images = [i.shape for i in graph.inputs if len(i.shape) == 4 and min(i.shape[2:]) > 1]
    plane = max((shape[2:] for shape in images), default=USUAL_PLANE)
    for _ in range(count):
        arrays = {}
        for i in graph.inputs:
            is_image = len(i.shape) == 4 and i.shape[1] == 3
            values = meant_values(i.name, i.shape, i.name in graph.index_inputs, plane)
            if values is None:
                values = rng.standard_normal(i.shape) * (spread if is_image else 1)
            arrays[i.name] = np.require(values.reshape(i.shape), np.float32, "C")
        yield Batch(arrays)


def meant_values(name: str, shape: Shape, is_index: bool, plane: Sequence[int]) -> Array | None:
    """Seeded values for an input that is no measurement; None for one that is.

    Regions (rows of 5 values) and true boxes lie within the image, whose height and width are
    ``plane``; they are of item 0 and of class 1. The size of the image is ``plane`` at scale 1.
    Marks of sequences (T, N) begin one at the first step. Other indices are 0, which is one of
    every table.
    """
    name, size = name.lower(), prod(shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    if shape[1:] == (5,) or (shape[1:] and re.search("rois|gt_boxes", name) and shape[-1] == 5):
        corners = np.random.default_rng(SEED).uniform(0, 0.5, (size // 5, 4))
        corners[:, 2:] = corners[:, :2] + 0.05 + 0.9 * corners[:, 2:]
        boxes = corners * [*plane[::-1], *plane[::-1]]
        is_true = "gt_boxes" in name
        return np.insert(boxes, 4 if is_true else 0, 1 if is_true else 0, axis=1)
    if re.search("im_?info", name) and shape[-1:] >= (3,):
        return np.resize(np.array([*plane, 1, 1, 1, 1][: shape[-1]]), size)
    if re.search("(^|_)cont$", name) and shape:
        return np.arange(size) >= size // max(shape[0], 1)
    return np.zeros(size) if is_index else None


def image_batches(graph: Graph, folder: PathLike) -> Iterator[Batch]:
    """The images of ``folder`` as input of a net with one image input.

    A ``val_list.txt`` (``file label`` a line) in the folder or beside it gives order and
    labels; otherwise the images are taken by name.
    """
    if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4:
        raise ParityError("--images needs a net with one image input; use --random.")
    target = graph.inputs[0]
    samples = list_images(folder)
    batch = batch_size(graph, len(samples))
    for start in range(0, len(samples), batch):
        part = samples[start : start + batch]
        paths = [sample.path for sample in part]
        data = [image_input(path, target.shape, graph.preprocessing) for path in paths]
        labels = [sample.label for sample in part if sample.label is not None]
        yield Batch(
            {target.name: np.stack(data)},
            [path.name for path in paths],
            labels if len(labels) == len(part) else (),
            paths,
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


def image_input(path: PathLike, shape: Sequence[int], record: Preprocessing | None) -> FloatArray:
    """One image file as (C, H, W) input of a net whose image input has ``shape`` (N, C, H, W).

    Without a record the ImageNet mean of Caffe's models (104, 117, 123) is used for three
    channels. Raises ParityError for a file that is no image, and for a mean of other channels.
    """
    _, channels, height, width = shape
    made = record or Preprocessing(mean=IMAGENET_MEAN if channels == 3 else ())
    for name, values in (("mean", made.mean), ("standard deviation", made.std)):
        if len(values) not in (0, 1, channels):
            raise ParityError(
                f"the recorded {name} has {len(values)} values, the net's input {channels} "
                "channels; use --random."
            )
    try:
        image = read_image(path, channels)
    except ImageError as error:
        raise ParityError(f"{error}. Remove it, or use --random.") from error
    return to_input(image, made, (height, width))


def list_images(folder: PathLike, listing: PathLike | None = None) -> Sequence[Sample]:
    """The images of a folder, labelled if a list names them.

    ``listing`` (``file label`` a line) gives order and labels; without it a ``val_list.txt``
    in the folder or beside it does, and else all images below the folder are taken by name.
    """
    folder = Path(folder)
    beside = (place / LIST_NAME for place in (folder, folder.parent))
    found = next((path for path in beside if path.is_file()), None)
    path = found if listing is None else Path(listing)
    try:
        if path is None or not folder.is_dir():
            samples: Sequence[Sample] = [Sample(image) for image in find_images(folder)]
        else:
            samples = read_list(path, folder)
    except ReadError as error:
        raise ParityError(str(error)) from error
    if not samples:
        raise ParityError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}).")
    for sample in samples:
        if sample.line and not sample.path.is_file():
            raise ParityError(f"{sample.line}: there is no image {sample.path}.")
    return samples
