"""The small trained model that comes with the package: SqueezeNet v1.1 for ten digits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe2torch.errors import ReadError
from caffe2torch.io.checksum import sha256
from squeezenet.manifest import models_folder

NAME = "squeezenet_digits"


@dataclass(frozen=True)
class SampleModel:
    """Caffe's two files, images in ``images`` and the names of the classes.

    ``labels`` has the true class of each image by file name, ``manifest`` is what
    tools/make_digits.py recorded: recipe, accuracy, checksums, origin of the data.
    """

    caffemodel: Path
    prototxt: Path
    images: Path
    classes: Path
    labels: Mapping[str, int]
    manifest: Mapping[str, Any]


def find_sample() -> SampleModel:
    """The sample model of this installation. Raises ReadError if a file is missing or changed."""
    folder = models_folder()
    images = folder / "digits"
    manifest = json.loads(_read(folder / f"{NAME}.json"))
    caffemodel, prototxt = folder / manifest["file"], folder / manifest["prototxt"]
    checksums = manifest["checksums"]
    _verify(caffemodel, checksums["sha256"])
    _verify(prototxt, checksums["prototxt_sha256"])
    lines = _read(images / "val_list.txt").decode().splitlines()
    labels = {name: int(label) for name, label in (line.split() for line in lines)}
    return SampleModel(caffemodel, prototxt, images, images / "classes.txt", labels, manifest)


def _verify(path: Path, expected: str) -> None:
    actual = sha256([_read(path)])
    if actual != expected:
        raise ReadError(
            f"the sample model {path} is not the one of this version (sha256 {actual}, expected "
            f"{expected}): install caffe2torch again."
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReadError(
            f"the sample model is incomplete, {path}: {error.strerror or error}. "
            "Install caffe2torch again."
        ) from error
