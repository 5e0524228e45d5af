"""Classification of images that carry no labels, as text, JSON, CSV or a contact sheet."""

from __future__ import annotations

import csv
import glob
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from caffe2torch.errors import ArtefactError, ReadError
from caffe2torch.images import Sample, find_images, read_image
from caffe2torch.io.atomic import atomic_write
from squeezenet.classifier import Classifier
from squeezenet.data import BadImages, ImageDataset, eval_batches, load_batches
from squeezenet.feed import Feed
from squeezenet.sources import FileSource


@dataclass(frozen=True)
class Guess:
    """One of the likeliest classes of an image."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class Answer:
    """An image and its likeliest classes, the likeliest first."""

    image: str
    guesses: tuple[Guess, ...]


def expand_inputs(arguments: Sequence[str]) -> list[Path]:
    """The image files that arguments name: files, folders, globs, and "-" for a list on stdin."""
    paths = [path for argument in arguments for path in _expand(argument)]
    if not paths:
        raise ReadError(
            "no image to classify: give files, folders, globs, or - for a list on stdin"
        )
    return paths


def _expand(argument: str) -> Iterable[Path]:
    if argument == "-":
        return [Path(line.strip("\r\n")) for line in sys.stdin if line.strip()]
    path = Path(argument)
    if path.is_dir():
        images = find_images(path)
        if not images:
            raise ReadError(f"the folder {path} holds no images")
        return images
    if not path.exists() and glob.has_magic(argument):
        found = [Path(name) for name in sorted(glob.glob(argument, recursive=True))]
        if not found:
            raise ReadError(f"the pattern {argument!r} matches no file")
        return [name for name in found if name.is_file()]
    return [path]


def classify(
    classifier: Classifier,
    paths: Sequence[Path],
    bad: BadImages,
    *,
    top_k: int = 5,
    batch_size: int = 32,
    workers: int = 0,
) -> Iterator[Answer]:
    """The answers in the order of the paths; bad images are noted and left out."""
    samples = [Sample(path, 0) for path in paths]
    dataset = ImageDataset(FileSource(samples), classifier.transform, seed=None)
    names = classifier.class_names
    predict = classifier.predict
    feed = Feed(dataset.transform, predict.device, channels_last=predict.channels_last)
    draws = eval_batches(len(dataset), batch_size)
    batches = load_batches(dataset, draws, workers=workers, device=predict.device)
    for batch in feed(batches):
        bad.note(batch.bad)
        if not len(batch.labels):
            continue
        probabilities = torch.softmax(predict(batch.images).double(), 1)
        if names and len(names) != probabilities.shape[1]:
            raise ReadError(
                f"there are {len(names)} class names, but the net has "
                f"{probabilities.shape[1]} classes: give the right --synset-words"
            )
        best = probabilities.topk(min(top_k, probabilities.shape[1]), 1)
        for index, values, labels in zip(
            batch.indices.tolist(), best.values.tolist(), best.indices.tolist(), strict=True
        ):
            guesses = (
                Guess(label, names[label] if names else str(label), value)
                for label, value in zip(labels, values, strict=True)
            )
            yield Answer(str(paths[index]), tuple(guesses))


def to_text(answers: Sequence[Answer]) -> str:
    """A line an image and an indented line a guess."""
    lines = [
        line
        for answer in answers
        for line in (answer.image, *(f"  {g.probability:7.2%}  {g.name}" for g in answer.guesses))
    ]
    return "".join(f"{line}\n" for line in lines)


def to_json(answers: Sequence[Answer]) -> str:
    """One JSON array of objects with ``image`` and ``guesses``."""
    plain = [asdict(answer) for answer in answers]
    return json.dumps(plain, indent=1, ensure_ascii=False) + "\n"


def to_csv(answers: Sequence[Answer]) -> str:
    """A header, then a row for each guess."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "rank", "label", "name", "probability"])
    for answer in answers:
        for rank, guess in enumerate(answer.guesses, 1):
            rows.writerow([answer.image, rank, guess.label, guess.name, f"{guess.probability:.6f}"])
    return text.getvalue()


FORMATS = {"text": to_text, "json": to_json, "csv": to_csv}


TILE = 200
LABEL = 40
GAP = 8
COLUMNS = 6
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_sheet(path: Path, answers: Sequence[Answer]) -> None:
    """Draw all answers into one image file, of the format that its suffix names."""
    columns = min(COLUMNS, len(answers))
    rows = math.ceil(len(answers) / columns)
    height = rows * (TILE + LABEL + GAP) + GAP
    sheet = np.full((height, columns * (TILE + GAP) + GAP, 3), 255, np.uint8)
    for place, answer in enumerate(answers):
        row, column = divmod(place, columns)
        top, left = GAP + row * (TILE + LABEL + GAP), GAP + column * (TILE + GAP)
        sheet[top : top + TILE, left : left + TILE] = _thumbnail(read_image(answer.image))
        _label(sheet, answer, top + TILE, left)
    try:
        done, data = cv2.imencode(path.suffix or ".png", sheet)
        if not done:
            raise ArtefactError(f"cannot encode {path}: give the sheet the suffix .png or .jpg")
    except cv2.error as error:
        raise ArtefactError(
            f"{path} has a suffix that no image format has: give the sheet .png or .jpg"
        ) from error
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    tile: npt.NDArray[np.uint8] = cv2.resize(square, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return tile


def _label(sheet: npt.NDArray[np.uint8], answer: Answer, top: int, left: int) -> None:
    guess = answer.guesses[0]
    # OpenCV's fonts have ASCII only; what they lack is drawn as "?".
    name = guess.name.encode("ascii", "replace").decode()
    for line, text in enumerate((_fit(name), f"{guess.probability:.1%}")):
        place = (left, top + 15 + 18 * line)
        cv2.putText(sheet, text, place, FONT, 0.45, (0, 0, 0), 1, cv2.LINE_AA)


def _fit(text: str) -> str:
    """The text, cut so that it stays within a tile."""
    while cv2.getTextSize(text, FONT, 0.45, 1)[0][0] > TILE:
        text = text[:-4] + "..." if text.endswith("...") else text[:-3] + "..."
    return text
