"""Training throughput in images/s: loading alone, the model alone, and both together.

    python tools/bench_train.py --data shared/ants_bees --seconds 20

"loading" decodes and transforms the training images with the workers of a real run; "model"
does forward, backward and update on one batch that stays in memory; "training" is both.
While the model computes on the CPU it shares the cores with the workers, so the limit there
is 1 / (1/loading + 1/model) where each was measured with all cores; on a GPU it is the
smaller of the two.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn
from torch.nn import functional as F

from caffe2torch.training.distributed import choose_device
from caffe2torch.training.optimisers import CaffeOptimiser
from squeezenet.config import TrainConfig
from squeezenet.data import ImageDataset, make_loader, open_split, train_batches
from squeezenet.evaluate import DTYPES
from squeezenet.model import SqueezeNet
from squeezenet.train import make_transform

WARMUP = 3
"""Steps that are not timed."""


def batches(config: TrainConfig) -> Iterator[Any]:
    """An endless stream of batches as training gets them."""
    source = open_split(Path(config.data), None, "train").source
    dataset = ImageDataset(source, make_transform(config, config.protocol), seed=0)
    sampler = train_batches(len(dataset), config.batch_size, seed=0)
    return iter(
        make_loader(dataset, sampler, workers=config.workers, pin=torch.cuda.is_available())
    )


def make_step(
    config: TrainConfig, model: nn.Module, device: torch.device
) -> Callable[[Any, Any], None]:
    """One training step on images and labels."""
    model = model.to(device).train()
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types the method without it
    optimiser = CaffeOptimiser(model.parameters(), lr=1e-5, momentum=0.9, weight_decay=2e-4)
    forward = torch.compile(model) if config.compile else model

    def step(images: Any, labels: Any) -> None:
        images, labels = (x.to(device, non_blocking=True) for x in (images, labels))
        if config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        optimiser.zero_grad(set_to_none=True)
        mixed = config.precision != "fp32"
        with torch.autocast(device.type, DTYPES[config.precision], enabled=mixed):
            logits = forward(images)
        torch.autograd.backward(F.cross_entropy(logits.float(), labels))
        optimiser.step()

    return step


def rate(work: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Images/s of repeated work that returns its number of images."""
    for _ in range(WARMUP):
        work()
    _wait(device)
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += work()
        _wait(device)
    return images / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def torchvision_model() -> nn.Module | None:
    """The model that a GPU run is compared with, where torchvision is installed."""
    try:
        from torchvision.models import squeezenet1_1
    except ImportError:
        return None
    model: nn.Module = squeezenet1_1(num_classes=1000)
    return model


def measure(config: TrainConfig, seconds: float) -> dict[str, float]:
    """The three rates, and the model's of torchvision where it is installed."""
    device = choose_device(config.device)
    size, crop = config.batch_size, config.crop
    synthetic = (torch.randn(size, 3, crop, crop, device=device), torch.zeros(size).long())
    step = make_step(config, SqueezeNet(config.version), device)

    def on(step: Callable[[Any, Any], None]) -> Callable[[], int]:
        def work() -> int:
            step(*synthetic)
            return size

        return work

    rates = {"model": rate(on(step), seconds, device)}
    stream = batches(config)
    rates["loading"] = rate(lambda: len(next(stream).labels), seconds, torch.device("cpu"))

    def train() -> int:
        batch = next(stream)
        step(batch.images, batch.labels)
        return len(batch.labels)

    rates["training"] = rate(train, seconds, device)
    other = torchvision_model()
    if other is not None:
        rates["torchvision model"] = rate(on(make_step(config, other, device)), seconds, device)
    return rates


def limit(rates: dict[str, float], device: torch.device) -> float:
    """What training could reach at most, from its two parts."""
    if device.type == "cuda":
        return min(rates["loading"], rates["model"])
    return 1 / (1 / rates["loading"] + 1 / rates["model"])


@click.command()
@click.option("--data", required=True, help="Tree with train/class/image.")
@click.option("--seconds", default=20.0, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--threads", default=0, help="CPU threads of the model; 0: torch's choice.")
@click.option("--precision", type=click.Choice(list(DTYPES)), default="fp32")
@click.option("--channels-last", is_flag=True)
@click.option("--compile", "compiled", is_flag=True)
@click.option("--device", default="auto")
def main(
    data: str, seconds: float, batch_size: int, workers: int, threads: int, precision: str,
    channels_last: bool, compiled: bool, device: str,
) -> None:  # fmt: skip
    """Print the rates as JSON."""
    if threads:
        torch.set_num_threads(threads)
    config = replace(
        TrainConfig(), data=data, batch_size=batch_size, workers=workers, precision=precision,
        channels_last=channels_last, compile=compiled, device=device,
    )  # fmt: skip
    rates = measure(config, seconds)
    chosen = choose_device(device)
    bound = limit(rates, chosen)
    name = torch.cuda.get_device_name() if chosen.type == "cuda" else "CPU"
    report = {key: round(value, 1) for key, value in rates.items()}
    report |= {"limit": round(bound, 1), "reached": round(rates["training"] / bound, 3)}
    click.echo(json.dumps({"device": name, "threads": torch.get_num_threads(), **report}))


if __name__ == "__main__":
    main()
