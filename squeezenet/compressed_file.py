"""A SqueezeNet file made a Deep Compression file, and how well either classifies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caffe2torch.errors import ArtefactError, ReadError
from caffe2torch.images import ImageError, find_images, read_image
from caffe2torch.io.atomic import atomic_group
from caffe2torch.io.deep_compression import SUFFIX, encode
from squeezenet.classifier import evaluate_files, open_classifier
from squeezenet.compress import compress
from squeezenet.deploy import deploy_prototxt
from squeezenet.evaluate import Metrics
from squeezenet.preprocess import Transform
from squeezenet.weights import load_model

Report = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    """The files that were written, and how many of the weights are in them."""

    files: tuple[Path, Path]
    kept: int
    weights: int


def compress_file(
    source: Path, path: Path, folder: Path, *, size: int, images: int, seed: int, report: Report
) -> Written:
    """Compress the model in ``source`` to at most ``size`` bytes at ``path``, a ``.net``.

    Up to ``images`` images from below ``folder`` calibrate it, chosen by ``seed``. The deploy
    prototxt is written beside the file, which does not say its net.
    """
    if path.suffix != SUFFIX:
        raise ArtefactError(
            f"{path}: a Deep Compression file is known by its name: end it in {SUFFIX}"
        )
    loaded = load_model(source)
    model = loaded.model
    chosen = read_calibration(folder, loaded.transform, images, seed, report)
    result = compress(model, chosen, size=size, seed=seed, report=report)
    prototxt = path.with_suffix(".prototxt")
    text = deploy_prototxt(model.version, None, model.num_classes, size=loaded.transform.crop)
    with atomic_group() as group:
        group.open(prototxt).write(text.encode())
        group.open(path).write(encode(result.layers))
    return Written(
        (path, prototxt),
        kept=sum(int(np.count_nonzero(layer.codes)) for layer in result.layers),
        weights=sum(layer.codes.size for layer in result.layers),
    )


def measure(path: Path, source: Path, data: Path, listing: str | None, report: Report) -> Metrics:
    """Evaluate ``path`` on a list, with input made as the model in ``source`` wants it."""
    classifier = replace(
        open_classifier(path, "torch", "cpu", None), transform=load_model(source).transform
    )
    return evaluate_files(
        classifier, data, listing, batch_size=20, workers=0, on_bad_image="fail", report=report
    )


def read_calibration(
    folder: Path, transform: Transform, count: int, seed: int, report: Report
) -> Tensor:
    """Up to ``count`` images from below ``folder`` as input (N, 3, H, W), chosen by ``seed``.

    What cannot be decoded is reported and left out. Raises ReadError where nothing is left.
    """
    if not folder.is_dir():
        raise ReadError(f"{folder} is not a folder: give one with images to calibrate on")
    paths = find_images(folder)
    arrays: list[Tensor] = []
    for index in np.random.default_rng(seed).permutation(len(paths)):
        try:
            arrays.append(torch.from_numpy(transform(read_image(paths[index]), None)))
        except ImageError as error:
            report(f"bad image, skipped: {error}")
        if len(arrays) == count:
            break
    if not arrays:
        raise ReadError(f"{folder} holds no image to calibrate on")
    return torch.stack(arrays)
