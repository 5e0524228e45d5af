"""The sample model that comes with the package, and the whole main job on it: convert to report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from caffe2torch.commands._output import print_table
from caffe2torch.commands.parity import print_report
from caffe2torch.errors import ArtefactError, ParityError, ReadError
from caffe2torch.images import read_class_names
from caffe2torch.io.checksum import sha256
from squeezenet.download import models_folder

if TYPE_CHECKING:
    from caffe2torch.parity.result import ParityReport


@dataclass(frozen=True)
class SampleModel:
    """Caffe's two files, images in ``images`` and the names of the classes.

    ``labels`` has the true class of each image by file name.
    """

    caffemodel: Path
    prototxt: Path
    images: Path
    classes: Path
    labels: Mapping[str, int]


def find_sample() -> SampleModel:
    """The sample model of this installation. Raises ReadError if a file is missing or changed."""
    folder = models_folder()
    images = folder / "digits"
    manifest = json.loads(_read(folder / "squeezenet_digits.json"))
    caffemodel, prototxt = folder / manifest["file"], folder / manifest["prototxt"]
    checksums = manifest["checksums"]
    _verify(caffemodel, checksums["sha256"])
    _verify(prototxt, checksums["prototxt_sha256"])
    lines = _read(images / "val_list.txt").decode().splitlines()
    labels = {name: int(label) for name, label in (line.split() for line in lines)}
    return SampleModel(caffemodel, prototxt, images, images / "classes.txt", labels)


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


def run_demo(out: Path) -> bool:
    """Convert the sample model into the folder ``out``, check and use what came out, and say so.

    Nothing is downloaded. Engines are torch, ONNX Runtime and, where the installed OpenCV
    has a Caffe reader (4.x), OpenCV; the report says which was skipped. True if the engines
    agree and at most one image in ten is classified wrongly.

    Raises:
        ArtefactError: ``out`` cannot be written.
        Caffe2TorchError: the installed sample model is damaged.
    """
    from caffe2torch.api import convert
    from caffe2torch.parity.check import check_parity

    click.echo("A SqueezeNet v1.1 for handwritten digits, in Caffe's format.")
    sample = find_sample()
    _make_folder(out)
    converted = out / f"{sample.caffemodel.stem}.pt"
    for path in (converted, converted.with_suffix(".onnx")):
        convert(sample.caffemodel, path, sample.prototxt)
        click.echo(f"converted  {path}  {path.stat().st_size:,} bytes")
    click.echo()
    parity = check_parity(
        sample.caffemodel, sample.prototxt, images=sample.images, synset_words=sample.classes
    )
    print_report(parity)
    click.echo()
    rows = _classify(sample, converted)
    right = sum(predicted == truth for _, predicted, _, truth in rows)
    print_table(("image", "predicted", "probability", "truth"), rows)
    click.echo(f"{right} of {len(rows)} right")
    click.echo(_write_report(parity, out / "report.html"))
    if not parity.passed or 10 * right < 9 * len(rows):
        click.secho("demo: FAIL", fg="red", bold=True)
        return False
    engines = 1 + len(parity.comparisons)
    click.secho(f"demo: PASS, {engines} engines agree on every blob", fg="green", bold=True)
    commands = (
        ("caffe2torch", "inspect", sample.caffemodel),
        ("squeezenet", "infer", "--weights", converted, "--synset-words", sample.classes,
         sample.images),
        ("caffe2torch", "convert", "YOURS.caffemodel", "YOURS.onnx"),
    )  # fmt: skip
    click.echo("next:")
    for command in commands:
        click.echo(f"  {shlex.join(map(str, command))}")
    return True


def write_web_demo(out: Path, runtime: Path | None) -> Path:
    """Write the sample model as a page for browsers, ``out``/index.html; return its path.

    ``runtime`` is as for ``write_page``, whose errors come from here, too.
    """
    from squeezenet.web import Example, write_page
    from squeezenet.weights import load_model

    sample = find_sample()
    names = read_class_names(sample.classes)
    _make_folder(out)
    page = out / "index.html"
    write_page(
        replace(load_model(sample.caffemodel), class_names=names),
        page,
        title="Handwritten digits",
        about="A SqueezeNet v1.1 in Caffe's format, converted by caffe2torch. The examples are of "
        "the Optical Recognition of Handwritten Digits by E. Alpaydin and C. Kaynak (CC BY 4.0).",
        examples=[Example(name, _read(sample.images / name)) for name in sample.labels],
        runtime=runtime,
    )
    return page


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"cannot make the folder {out}: {error.strerror or error}.") from error


def _write_report(parity: ParityReport, path: Path) -> str:
    """Write the HTML report, and say where it is or which library it lacks."""
    from caffe2torch.parity.report import require_libraries, write_report

    try:
        require_libraries()
    except ParityError as error:
        return f"no HTML report: {error}"
    write_report(parity, path)
    return f"report: {path}"


def _classify(sample: SampleModel, weights: Path) -> list[tuple[str, str, str, str]]:
    """Image, predicted class, its probability and the true class, as ``squeezenet infer`` does."""
    from squeezenet.classifier import open_classifier
    from squeezenet.data import BadImages
    from squeezenet.infer import classify

    classifier = open_classifier(weights, "torch", "cpu", None, sample.classes)
    paths = [sample.images / name for name in sample.labels]
    answers = classify(classifier, paths, BadImages("fail", lambda _: None), top_k=1)
    return [
        (name, best.name, f"{best.probability:.1%}", classifier.class_names[label])
        for (name, label), (best,) in zip(
            sample.labels.items(), (answer.guesses for answer in answers), strict=True
        )
    ]
