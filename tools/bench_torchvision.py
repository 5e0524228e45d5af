"""What tools/bench_train.py measures, done with torchvision and timm, in an environment of theirs.

    python tools/bench_torchvision.py FOLDER BATCH_SIZE WORKERS CROP DEVICE

FOLDER has a folder a class. The first line that it prints is the names of its rows as JSON:
ImageFolder with RandomResizedCrop, RandomHorizontalFlip and normalisation in a DataLoader; training
steps of squeezenet1_1 on a batch in memory; and both together. Where timm is installed, its loader
is measured as well, with the same augmentation, and training with it. For each line
``["name", seconds]`` that it reads it prints the images of so long a time, and the seconds they
took. Nothing of caffe2torch is needed here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader


def timed(work: Callable[[], int], seconds: float, warmup: int) -> tuple[int, float]:
    """The images of repeated work that returns their number, and the seconds they took."""
    for _ in range(warmup):
        work()
    wait()
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += work()
        wait()
    return images, time.perf_counter() - start


def wait() -> None:
    """Let a GPU finish."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(folder: str, batch_size: int, workers: int, crop: int, name: str) -> None:
    """Print the names of the rows, and what is measured of each that is asked for."""
    from torchvision import datasets, models, transforms

    device = torch.device(name)
    steps = [
        transforms.RandomResizedCrop(crop),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    images = datasets.ImageFolder(folder, transforms.Compose(steps))
    loader = DataLoader(images, batch_size, shuffle=True, num_workers=workers, drop_last=True,
                        pin_memory=device.type == "cuda")  # fmt: skip
    loaders: dict[str, Iterable[Any]] = {"torchvision": loader}
    with contextlib.suppress(ImportError):
        loaders["timm"] = timm_loader(folder, batch_size, workers, crop, device)
    synthetic = torch.randn(batch_size, 3, crop, crop), torch.zeros(batch_size).long()

    def stepper(precision: torch.dtype | None, order: torch.memory_format) -> Callable[..., int]:
        model = models.squeezenet1_1(num_classes=1000).to(device, memory_format=order).train()
        optimiser = torch.optim.SGD(model.parameters(), 1e-5, momentum=0.9, weight_decay=2e-4)

        def step(batch: Any) -> int:
            inputs = batch[0].to(device, non_blocking=True).contiguous(memory_format=order)
            labels = batch[1].to(device, non_blocking=True)
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(device.type, precision, enabled=precision is not None):
                logits = model(inputs)
            torch.autograd.backward(F.cross_entropy(logits.float(), labels))
            optimiser.step()
            return len(labels)

        return step

    forms = {
        "fp32": stepper(None, torch.contiguous_format),
        "fp32, channels last": stepper(None, torch.channels_last),
        "bf16, channels last": stepper(torch.bfloat16, torch.channels_last),
    }
    works = {f"torchvision model {form}": partial(step, synthetic) for form, step in forms.items()}
    for name, images in loaders.items():
        works[f"{name} loading"] = partial(train, endless(images), count)
        for form, step in forms.items():
            works[f"{name} training {form}"] = partial(train, endless(images), step)
    print(json.dumps(list(works)), flush=True)
    for line in sys.stdin:
        name, seconds = json.loads(line)
        # What is at hand when a loader was left alone for a while is not timed.
        warmup = 2 * workers + 2 if name.endswith("loading") else 1
        print(json.dumps(timed(works[name], seconds, warmup)), flush=True)


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, over and over."""
    return itertools.chain.from_iterable(itertools.repeat(batches))


def count(batch: Any) -> int:
    """The number of images of a batch."""
    return len(batch[1])


def train(batches: Iterator[Any], step: Callable[[Any], int]) -> int:
    """Make a step with the next batch."""
    return step(next(batches))


def timm_loader(
    folder: str, batch_size: int, workers: int, crop: int, device: torch.device
) -> Iterable[Any]:
    """The loader that timm's train.py makes, but without changes of colour; it mirrors a half."""
    from timm.data import create_dataset, create_loader

    dataset = create_dataset("", root=folder, is_training=True, batch_size=batch_size)
    loader: Iterable[Any] = create_loader(
        dataset, crop, batch_size, is_training=True, color_jitter=0.0, num_workers=workers,
        device=device, pin_memory=device.type == "cuda", use_prefetcher=device.type == "cuda",
    )  # fmt: skip
    return loader


if __name__ == "__main__":
    size, workers, crop = map(int, sys.argv[2:5])
    main(sys.argv[1], size, workers, crop, sys.argv[5])
