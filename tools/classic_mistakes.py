r"""What the classic mistakes cost: right answers of SqueezeNet, as it should be and spoiled.

    python tools/classic_mistakes.py --v10 squeezenet_v1.0.caffemodel \
        --v11 squeezenet_v1.1.caffemodel --images imagenet_sample/images \
        --val-list imagenet_sample/val_list.txt

prints the table of docs/faq.md: for each mistake how many images have the right best class, the
right one among the best five, and the same best class as without the mistake; and the largest
change of a logit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from caffe2torch.images import read_list
from squeezenet import load_pretrained
from squeezenet.preprocess import CROP, RESIZE, read_bgr

Pixels = npt.NDArray[Any]
MEAN = np.array([104, 117, 123], np.float32)
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
PATH = click.Path(path_type=Path, exists=True)


def warp(image: Pixels, side: int = RESIZE, interpolation: int = cv2.INTER_CUBIC) -> Pixels:
    """The whole image as a square."""
    return np.asarray(cv2.resize(image, (side, side), interpolation=interpolation))


def shorter_side(image: Pixels) -> Pixels:
    """The shorter side at 256, the aspect ratio kept."""
    scale = RESIZE / min(image.shape[:2])
    height, width = (max(round(side * scale), RESIZE) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC))


def middle(image: Pixels) -> Pixels:
    """The middle 227 x 227 pixels, as floats."""
    top, left = ((side - CROP) // 2 for side in image.shape[:2])
    return image[top : top + CROP, left : left + CROP].astype(np.float32)


def rgb01(image: Pixels) -> Pixels:
    """Red first, from 0 to 1."""
    return middle(warp(image))[:, :, ::-1] / 255


INPUTS: dict[str, Callable[[Pixels], Pixels]] = {
    "none": lambda image: middle(warp(image)) - MEAN,
    "RGB instead of BGR": lambda image: middle(warp(image))[:, :, ::-1] - MEAN[::-1],
    "RGB, and the mean still in BGR order": lambda image: middle(warp(image))[:, :, ::-1] - MEAN,
    "mean not subtracted": lambda image: middle(warp(image)),
    "RGB in [0, 1]": rgb01,
    "torchvision's normalisation": lambda image: (rgb01(image) - IMAGENET_MEAN) / IMAGENET_STD,
    "aspect ratio kept, then the middle": lambda image: middle(shorter_side(image)) - MEAN,
    "whole image to 227 x 227, no crop": lambda image: middle(warp(image, CROP)) - MEAN,
    "bilinear instead of bicubic": lambda i: middle(warp(i, RESIZE, cv2.INTER_LINEAR)) - MEAN,
}


@contextmanager
def changed(modules: Sequence[nn.Module], name: str, value: Any) -> Iterator[None]:
    """The modules with another value of the attribute ``name``."""
    old = [getattr(module, name) for module in modules]
    for module in modules:
        setattr(module, name, value)
    yield
    for module, before in zip(modules, old, strict=True):
        setattr(module, name, before)


def logits(net: nn.Module, images: list[Pixels], make: Callable[[Pixels], Pixels]) -> torch.Tensor:
    """One row an image."""
    rows = []
    with torch.inference_mode():
        for start in range(0, len(images), 20):
            batch = np.stack([make(image).transpose(2, 0, 1) for image in images[start:][:20]])
            rows.append(net(torch.from_numpy(np.ascontiguousarray(batch))))
    return torch.cat(rows)


@click.command()
@click.option("--v10", type=PATH, required=True)
@click.option("--v11", type=PATH, required=True)
@click.option("--images", "folder", type=PATH, required=True)
@click.option("--val-list", type=PATH, required=True)
def main(v10: Path, v11: Path, folder: Path, val_list: Path) -> None:
    """Print the table."""
    samples = read_list(val_list, folder)
    images = [read_bgr(sample.path) for sample in samples]
    labels = torch.tensor([sample.label for sample in samples])
    click.echo(f"| mistake | top-1 of {len(images)} | top-5 | best class unchanged | logits |")
    click.echo("|---|---|---|---|---|")

    def row(name: str, values: torch.Tensor, usual: torch.Tensor) -> None:
        best = values.topk(5).indices
        top1, same = ((best[:, 0] == other).sum() for other in (labels, usual.argmax(1)))
        top5 = (best == labels[:, None]).any(1).sum()
        change = (values - usual).abs().max()
        click.echo(f"| {name} | {top1} | {top5} | {same} | {change:.2g} |")

    for version, file in (("1.1", v11), ("1.0", v10)):
        net = load_pretrained(version, weights=file)
        usual = logits(net, images, INPUTS["none"])
        for name, make in INPUTS.items() if version == "1.1" else ():
            row(f"v1.1: {name}", logits(net, images, make), usual)
        if version == "1.0":
            row("v1.0: none", usual, usual)
            with changed([net.conv10], "padding", (0, 0)):
                row("v1.0: conv10 not padded", logits(net, images, INPUTS["none"]), usual)
        pools = [module for module in net.modules() if isinstance(module, nn.MaxPool2d)]
        with changed(pools, "ceil_mode", False):
            row(f"v{version}: pooling rounds down", logits(net, images, INPUTS["none"]), usual)


if __name__ == "__main__":
    main()
