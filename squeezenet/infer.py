"""Classification of images that carry no labels."""

from __future__ import annotations

import csv
import glob
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from caffe2torch.errors import ReadError
from caffe2torch.images import Sample, find_images
from squeezenet.data import BadImages, FileSource, ImageDataset
from squeezenet.evaluate import Predict
from squeezenet.loader import make_loader
from squeezenet.sampler import EvalSampler
from squeezenet.transforms import Transform


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
    predict: Predict,
    transform: Transform,
    paths: Sequence[Path],
    names: Sequence[str],
    bad: BadImages,
    *,
    top_k: int = 5,
    batch_size: int = 32,
    workers: int = 0,
) -> Iterator[Answer]:
    """The answers in the order of the paths; bad images are noted and left out."""
    dataset = ImageDataset(FileSource([Sample(path, 0) for path in paths]), transform, seed=None)
    loader = make_loader(dataset, EvalSampler(len(dataset), batch_size), workers=workers)
    for batch in loader:
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


def to_text(answers: Iterable[Answer]) -> Iterator[str]:
    """A line an image and an indented line a guess."""
    for answer in answers:
        yield answer.image
        yield from (f"  {g.probability:7.2%}  {g.name}" for g in answer.guesses)


def to_json(answers: Iterable[Answer]) -> Iterator[str]:
    """One JSON array of objects with ``image`` and ``guesses``."""
    yield json.dumps([asdict(answer) for answer in answers], indent=1, ensure_ascii=False)


def to_csv(answers: Iterable[Answer]) -> Iterator[str]:
    """A header, then a row for each guess."""
    yield _row(["image", "rank", "label", "name", "probability"])
    for answer in answers:
        for rank, guess in enumerate(answer.guesses, 1):
            yield _row([answer.image, rank, guess.label, guess.name, f"{guess.probability:.6f}"])


def _row(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


FORMATS: dict[str, Callable[[Iterable[Answer]], Iterator[str]]] = {
    "text": to_text,
    "json": to_json,
    "csv": to_csv,
}
