"""What a net is fed: shapes for inputs that it does not size, and values that its layers expect."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from math import prod

import numpy as np

from caffe2torch.graph import FloatArray, Graph, Shape
from caffe2torch.io.schema import Message
from caffe2torch.lower.batch import batch_of, shapes_at
from caffe2torch.parity.inputs import random_batches

ROWS = 2
"""Most items of a batch that are fed where the net takes any number."""
MOST_VALUES = 1 << 25
"""Of all blobs of a net together where two items are fed: 128 MiB in each engine."""
SIDES = (64, 96, 128, 224, 320, 512)
"""Sides of images that are tried, the smallest first."""
ROIS, BOXES = 4, 2
"""Regions, and true boxes, that are fed."""
FRAMES = 16
"""Of a video."""
SMALL: tuple[tuple[str, Shape], ...] = (
    (r"im_?info", (1, 3)),
    (r"im(age)?_sizes?$", (1, 2)),
    (r"gt_boxes", (BOXES, 5)),
    (r"rois?($|_|\d)|proposal", (ROIS, 5)),
    (r"label|target|^gt|class|cont$|^ids?$|weight", (1, 1)),
)
"""The shape of an input that is no image, by a pattern of its name."""
IMAGES: tuple[tuple[str, Shape], ...] = (
    ("mnist|(?<!goog)lenet", (1, 1, 28, 28)),
    ("cifar", (1, 3, 32, 32)),
    ("siamese", (1, 2, 28, 28)),
    ("segnet", (1, 3, 360, 480)),
    ("det4", (1, 15, 24, 24)),
    ("fpcnet_dh", (1, 3, 16, 16)),
    ("deepspeech", (20, 1, 161, 60)),
)
"""The shape of an image, by a pattern of the net's name."""
USUAL: tuple[Shape, ...] = (
    (1, 3, 224, 224),
    (1, 1, 224, 224),
    (1, 3, FRAMES, 112, 112),
    (1, 3),
    (1, 1, 28, 28),
    (1, 6, 224, 224),
    (1, 8, 224, 224),
)
"""Shapes of inputs that are tried, one after the other, where no name tells."""


def guesses(net: str, blob: str, message: Message) -> Iterator[Shape]:
    """Shapes to try for an input whose shape the net does not say, the likeliest first."""
    small = [shape for pattern, shape in SMALL if re.search(pattern, blob.lower())]
    if small:
        yield from small
        batch = [*message.input_dim[:1], *(shape.dim[0] for shape in message.input_shape[:1])]
        yield from ((items, *shape[1:]) for items in batch for shape in small)
        return
    for layer in [*message.layer, *message.layers]:
        if blob in layer.top and layer.HasField("transform_param"):
            resize = layer.transform_param.resize_param
            if resize.height and blob == layer.top[0]:
                yield (1, 3, resize.height, resize.width)
            crop = layer.transform_param.crop_size
            if crop and blob == layer.top[0]:
                yield from ((1, channels, crop, crop) for channels in (3, 1, 6, 2))
                yield (1, 3, FRAMES, crop, crop)
    yield from (shape for pattern, shape in IMAGES if re.search(pattern, net.lower()))
    yield from USUAL


def fewer_rows(text: str) -> str:
    """A prototxt whose DummyData layers make at most ROWS items."""
    parts = text.split("dummy_data_param")
    for k, part in enumerate(parts[1:], 1):
        depth, end = 0, len(part)
        for brace in re.finditer("[{}]", part):
            depth += 1 if brace[0] == "{" else -1
            if not depth:
                end = brace.end()
                break
        own = re.sub(r"(shape\s*:?\s*\{\s*dim\s*:\s*)(\d+)", _fewer, part[:end])
        parts[k] = re.sub(r"(\bnum\s*:\s*)(\d+)", _fewer, own) + part[end:]
    return "dummy_data_param".join(parts)


def _fewer(found: re.Match[str]) -> str:
    return f"{found[1]}{min(int(found[2]), ROWS)}"


def smaller(graph: Graph, side: int) -> Iterator[Mapping[str, Shape]]:
    """Shapes for the inputs of ``graph`` with fewer values, the smallest first.

    One item in place of a batch, and images whose longer side is at least ``side``, if that is
    less than they have.
    """
    declared = {i.name: i.shape for i in graph.inputs}
    batch = max((shape[0] for shape in declared.values() if shape), default=1)
    single = {
        name: (1, *shape[1:]) if shape[:1] == (batch,) else shape
        for name, shape in declared.items()
    }
    largest = max((max(s[2:]) for s in single.values() if len(s) == 4), default=0)
    for shapes in (single, declared):
        for tried in sorted({side, *SIDES}):
            if side <= tried < largest:
                yield {name: _within(shape, tried / largest) for name, shape in shapes.items()}
        yield single
        if batch == 1:
            return


def _within(shape: Shape, factor: float) -> Shape:
    if len(shape) != 4 or max(shape[2:]) == 1:
        return shape
    sides = (max(1, round(size * factor / 4) * 4) for size in shape[2:])
    return (*shape[:2], *sides)


def values_of(graph: Graph, rows: int = 1) -> int:
    """The number of values of all blobs for ``rows`` items, or those that the net has fixed."""
    batch = batch_of(graph)
    shapes = None if batch is None else shapes_at(graph, batch, min(rows, batch))
    return sum(map(prod, (shapes or graph.shapes).values()))


def sensible_inputs(graph: Graph, are_weights_random: bool = False) -> dict[str, FloatArray]:
    """The random inputs of a parity check, of as few items as the net allows.

    For random weights, which keep the size of what they are fed, images are unit normal: pixels
    would saturate every softmax, and overflow in the exponents that decode boxes.
    """
    batch = batch_of(graph)
    rows = ROWS if values_of(graph, ROWS) <= MOST_VALUES else 1
    (random,) = islice(random_batches(graph, 1), 1)
    found = {}
    for name, array in random.inputs.items():
        if array.ndim and batch is not None and len(array) == batch:
            array = array[:rows]
        if are_weights_random and array.ndim == 4 and array.shape[1] == 3:
            array = array / (array.std() or np.float32(1))
        found[name] = array
    return found
