"""A table of a SqueezeNet's layers: output sizes, parameters and multiplications."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

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
    """Name, output (without the batch), parameters and multiply-adds of each layer."""
    rows = []
    x = torch.zeros(1, 3, crop, crop)
    for name, layer in model.named_children():
        with torch.inference_mode():
            x = layer(x)
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.Sequential, Fire)):
            # All convolutions of a layer give as many positions as the layer.
            convolutions = [m for m in layer.modules() if isinstance(m, nn.Conv2d)]
            operations = sum(c.weight.numel() for c in convolutions) * math.prod(x.shape[2:])
            parameters = sum(p.numel() for p in layer.parameters())
            rows.append((name, tuple(x.shape[1:]), parameters, operations))
    return rows
