"""A table of a SqueezeNet's layers: output sizes, parameters and multiplications."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from squeezenet.model import Fire, SqueezeNet
from squeezenet.weights import load_model


def describe(
    version: str, bypass: str | None, num_classes: int, weights: Path | None
) -> Iterator[str]:
    """The lines of the table, for an architecture or for a file of weights."""
    if weights is not None:
        loaded = load_model(weights)
        model, crop = loaded.model, loaded.transform.crop
    else:
        model, crop = SqueezeNet(version, bypass=bypass, num_classes=num_classes), 227
    rows = _measure(model.eval(), crop)
    kind = f", {model.bypass} bypass" if model.bypass else ""
    yield f"SqueezeNet v{model.version}{kind}, {model.num_classes} classes, input 3x{crop}x{crop}"
    yield f"{'layer':<10}{'output':>14}{'parameters':>13}{'multiply-adds':>16}"
    for name, shape, parameters, operations in rows:
        size = "x".join(str(side) for side in shape)
        yield f"{name:<10}{size:>14}{parameters:>13,}{operations:>16,}"
    total = sum(row[2] for row in rows)
    yield f"{'total':<10}{'':>14}{total:>13,}{sum(row[3] for row in rows):>16,}"
    yield f"float32 weights: {total * 4 / 1e6:.2f} MB"


def _measure(model: SqueezeNet, crop: int) -> list[tuple[str, tuple[int, ...], int, int]]:
    rows: list[tuple[str, tuple[int, ...], int, int]] = []
    operations = [0]

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        operations[0] += output[0].numel() * module.weight[0].numel()

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            parameters = sum(p.numel() for p in module.parameters())
            rows.append((name, tuple(output.shape[1:]), parameters, operations[0]))
            operations[0] = 0

        return hook

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    for name, module in model.named_children():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d, nn.Sequential, Fire)):
            module.register_forward_hook(record(name))
    with torch.inference_mode():
        model(torch.zeros(1, 3, crop, crop))
    return rows
