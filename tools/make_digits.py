"""Train the sample model in models/: a SqueezeNet v1.1 for handwritten digits.

The data set is the one that scikit-learn carries, a part of the UCI Optical Recognition of
Handwritten Digits; scikit-learn is needed here and nowhere else::

    pip install scikit-learn
    python tools/make_digits.py          # train and replace the files in models/
    python tools/make_digits.py --check  # train and fail unless the same bytes come out

Every choice is seeded and training uses one thread, so the same machine and the same
versions of torch and OpenCV give the same bytes; another processor or version may round
otherwise and give another model of like accuracy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
NAME = "squeezenet_digits"
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
RESIZE, CROP = 54, 48
"""Sizes in Caffe's proportion of 256 to 227."""
SPLIT_SEED, VAL_IMAGES, TEST_IMAGES = 0, 180, 360
SAMPLES = 12
TRAIN = (
    *("--version", "1.1", "--resize", str(RESIZE), "--crop", str(CROP), "--mean", "128,128,128"),
    *("--protocol", "caffe", "--no-mirror", "--rotation", "10", "--dropout", "0.5"),
    *("--solver-type", "Adam", "--lr", "0.0003", "--lr-mult", "conv10.*=0.2"),
    *("--warmup", "80", "--clip", "1"),
    *("--weight-decay", "0", "--ema", "0.98", "--epochs", "24", "--eval-every", "120"),
    *("--seed", "0", "--threads", "1", "--workers", "0", "--device", "cpu"),
)
"""The training command. Caffe's ReLU on the logits leaves a class that starts below zero for all
images without a gradient; dropout and a slow classifier bring such classes to life."""


def main() -> int:
    """Make the files; return 1 if ``--check`` finds that they differ from those in models/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of replacing")
    arguments = parser.parse_args()
    models = ROOT / "models"
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "models"
        make(Path(folder), made)
        if arguments.check:
            return compare(made, models)
        shutil.copytree(made, models, dirs_exist_ok=True)
    return 0


def make(work: Path, out: Path) -> None:
    """Train in ``work`` and write everything that belongs in models/ to ``out``."""
    tests = write_images(work / "data")
    squeezenet("train", "--data", work / "data", "--out", work / "run", *TRAIN)
    model = out / f"{NAME}.caffemodel"
    (out / "digits").mkdir(parents=True)
    squeezenet("export", "--weights", work / "run" / "last.pt", model)
    measured = evaluate(model, work / "data" / "test")
    write_samples(tests, out / "digits")
    text = json.dumps(manifest(model, measured), indent=2)
    (out / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")


def write_images(folder: Path) -> list[tuple[Path, int]]:
    """Write train/, val/ and test/ with a folder a class; return the test images and labels."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    index = np.arange(len(digits.target))
    train, held_out = train_test_split(
        index,
        test_size=VAL_IMAGES + TEST_IMAGES,
        random_state=SPLIT_SEED,
        stratify=digits.target,
    )
    val, test = train_test_split(
        held_out,
        test_size=TEST_IMAGES,
        random_state=SPLIT_SEED,
        stratify=digits.target[held_out],
    )
    paths = {}
    for split, part in (("train", train), ("val", val), ("test", test)):
        for i in part:
            label = int(digits.target[i])
            path = folder / split / f"{label}_{CLASSES[label]}" / f"{i:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), picture(digits.images[i]))
            paths[i] = path, label
    return [paths[i] for i in sorted(test)]


def picture(digit: np.ndarray) -> np.ndarray:
    """An 8x8 digit of 0 to 16 as dark ink on a white square of the size that is cropped."""
    paper = np.pad(np.rint(255 - digit * (255 / 16)), 1, constant_values=255).astype(np.uint8)
    grey = cv2.resize(paper, (RESIZE, RESIZE), interpolation=cv2.INTER_CUBIC)
    return np.dstack([grey] * 3)


def write_samples(tests: list[tuple[Path, int]], folder: Path) -> None:
    """The first test image of each class, then the next ones, their list and class names."""
    first = {label: (path, label) for path, label in reversed(tests)}
    rest = [item for item in tests if item not in first.values()]
    lines = []
    for path, label in sorted([*first.values(), *rest[: SAMPLES - len(first)]]):
        shutil.copy(path, folder / path.name)
        lines.append(f"{path.name} {label}\n")
    (folder / "val_list.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")


def evaluate(model: Path, images: Path) -> dict[str, Any]:
    """What ``squeezenet eval`` measures on a tree of class folders."""
    output = squeezenet("eval", "--weights", model, "--data", images, "--workers", "0", "--json")
    return dict(json.loads(output))


def manifest(model: Path, measured: dict[str, Any]) -> dict[str, Any]:
    """What is known of the model: origin, recipe, accuracy and checksums."""
    prototxt = model.with_suffix(".prototxt")
    return {
        "name": "squeezenet",
        "version": "1.1",
        "file": model.name,
        "prototxt": prototxt.name,
        "size": model.stat().st_size,
        "checksums": {"sha256": sha256(model), "prototxt_sha256": sha256(prototxt)},
        "licence": "BSD-3-Clause",
        "num_classes": len(CLASSES),
        "preprocessing": {
            "resize": RESIZE,
            "interpolation": "cubic",
            "crop_size": CROP,
            "mean": [128.0, 128.0, 128.0],
            "scale": 1.0,
            "channel_order": "BGR",
        },
        "accuracy": {
            "images": "test split, not used in training or in the choice of the recipe",
            "count": measured["images"],
            "top1": measured["top1"],
            "loss": round(measured["loss"], 4),
        },
        "data": {
            "name": "Optical Recognition of Handwritten Digits (test part, 1797 images, "
            "as bundled with scikit-learn)",
            "authors": "E. Alpaydin, C. Kaynak",
            "source": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            "licence": "CC-BY-4.0",
            "changes": "8x8 grey values inverted, bordered by one white pixel, enlarged to "
            f"{RESIZE}x{RESIZE} by bicubic interpolation and stored as three equal channels",
        },
        "recipe": {
            "tool": "tools/make_digits.py",
            "split": f"stratified, seed {SPLIT_SEED}: "
            f"{1797 - VAL_IMAGES - TEST_IMAGES} train, {VAL_IMAGES} val, {TEST_IMAGES} test",
            "train": shlex.join(("squeezenet", "train", "--data", "DATA", "--out", "RUN", *TRAIN)),
            "samples": "the first test image of each class, then the next ones, by index",
        },
    }


def compare(made: Path, kept: Path) -> int:
    """Print the files of ``made`` that differ from those in ``kept``; 1 if there are any."""
    files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    differing = [
        name
        for name in files
        if not (kept / name).is_file() or (made / name).read_bytes() != (kept / name).read_bytes()
    ]
    for name in differing:
        print(f"models/{name} differs")
    print(f"{len(files) - len(differing)} of {len(files)} files are the same")
    return 1 if differing else 0


def squeezenet(*arguments: object) -> str:
    """Run a command of ours and return what it prints; progress goes to stderr."""
    command = [sys.executable, "-m", "squeezenet", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def sha256(path: Path) -> str:
    """The checksum of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
