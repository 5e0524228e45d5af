"""The sample model that comes with the package, and the whole main job on it: convert to report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe2torch.errors import ArtefactError, ParityError, ReadError
from caffe2torch.io.checksum import sha256
from squeezenet.download import models_folder

if TYPE_CHECKING:
    from caffe2torch.parity.result import ParityReport


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


@dataclass(frozen=True)
class Classified:
    """A sample image, the likeliest class with its probability, and the true class."""

    file: str
    predicted: str
    probability: float
    truth: str

    @property
    def right(self) -> bool:
        """Whether the likeliest class is the true one."""
        return self.predicted == self.truth


@dataclass(frozen=True)
class Demo:
    """What ``run_demo`` did. ``page`` is None where a library for it is missing (``no_page``)."""

    sample: SampleModel
    files: Sequence[Path]
    parity: ParityReport
    answers: Sequence[Classified]
    page: Path | None
    no_page: str = ""

    @property
    def passed(self) -> bool:
        """Whether the engines agree and at most one image in ten is classified wrongly."""
        right = sum(answer.right for answer in self.answers)
        return self.parity.passed and 10 * right >= 9 * len(self.answers)


def run_demo(out: Path) -> Demo:
    """Convert the sample model into the folder ``out`` and check and use what came out.

    Nothing is downloaded. Engines are torch, ONNX Runtime and, where the installed OpenCV
    has a Caffe reader (4.x), OpenCV; the report says which was skipped.

    Raises:
        ArtefactError: ``out`` cannot be written.
        Caffe2TorchError: the installed sample model is damaged.
    """
    from caffe2torch.api import convert
    from caffe2torch.parity.check import check_parity

    sample = find_sample()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"cannot make the folder {out}: {error.strerror or error}.") from error
    stem = out / sample.caffemodel.stem
    files = [
        convert(sample.caffemodel, stem.with_suffix(suffix), sample.prototxt)
        for suffix in (".pt", ".onnx")
    ]
    parity = check_parity(
        sample.caffemodel, sample.prototxt, images=sample.images, synset_words=sample.classes
    )
    page, no_page = _write_page(parity, out / "report.html")
    return Demo(sample, files, parity, _classify(sample, files[0]), page, no_page)


def _write_page(parity: ParityReport, path: Path) -> tuple[Path | None, str]:
    from caffe2torch.parity.report import require_libraries, write_report

    try:
        require_libraries()
    except ParityError as error:
        return None, str(error)
    write_report(parity, path)
    return path, ""


def _classify(sample: SampleModel, weights: Path) -> list[Classified]:
    """The sample images through the converted weights, as ``squeezenet infer`` does it."""
    from caffe2torch.images import read_class_names
    from squeezenet.classifier import open_classifier
    from squeezenet.data import BadImages
    from squeezenet.infer import classify

    names = read_class_names(sample.classes)
    classifier = open_classifier(weights, "torch", "cpu", None)
    answers = classify(
        classifier.predict,
        classifier.transform,
        [sample.images / name for name in sample.labels],
        names,
        BadImages("fail", lambda _: None),
        top_k=1,
    )
    return [
        Classified(name, answer.guesses[0].name, answer.guesses[0].probability, names[label])
        for answer, (name, label) in zip(answers, sample.labels.items(), strict=True)
    ]
