"""Deep Compression of a SqueezeNet after training (arXiv:1510.00149), from unlabelled images.

Pruning and weight sharing as in the paper, but without retraining: what a removed weight did
is made up for by the others, layer by layer, on calibration images (``squeezenet.prune``).
Each layer reads what the compressed layers before it give and is fitted to what the
uncompressed net has in its place, so that errors do not pile up. How many weights a layer
keeps is chosen over all layers at once, for the least expected change of the logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import NetError, WeightsError
from caffe2torch.io.deep_compression import CODEBOOK, CodedLayer, coded_size
from squeezenet.budget import Curve, fixed_bytes, share_out
from squeezenet.model import Fire, SqueezeNet
from squeezenet.prune import as_matrix, output_places, prune, sample_patches

DAMPING = 0.1
"""Of a layer's moment, in mean squares of its inputs: what few images say is not all there is."""

SHARES = (0.6, 0.4, 0.28, 0.2, 0.13, 0.08, 0.05)
"""Shares of a layer's weights at which its error is measured."""

STEPS = 4
"""In which a layer is pruned to its share."""

PLACES = 60_000
"""Positions of a layer's output that its moment is taken over."""

PROBED = 32
"""Images on which the change of the logits is measured."""

BATCH = 8

ROUNDS = 100
"""Lloyd's steps at most; 256 clusters of weights are still after some dozens."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Compressed:
    """The layers of the file, in its order, and the model with the weights that it has."""

    layers: list[CodedLayer]
    model: SqueezeNet


@dataclass(frozen=True)
class _Stage:
    """A part of the net: the convolutions that read its input, and what it makes of it."""

    convolutions: tuple[str, ...]
    forward: Callable[[Tensor], Tensor]


def compress(
    model: SqueezeNet, images: Tensor, *, size: int, seed: int = 0, report: Report = lambda _: None
) -> Compressed:
    """Prune and cluster a copy of ``model`` to at most ``size`` bytes.

    Args:
        model: in test mode, on the CPU; without bypass, which the file could not say.
        images: calibration images (N, 3, H, W) as the model's input; some dozens will do.
        size: of the file, in bytes.
        seed: of the positions and directions that are sampled.
        report: told what is being done.

    Raises:
        NetError: the model has a bypass, or ``size`` is too small for it.
        WeightsError: the model, or its answer to the images, has infinity or NaN.
    """
    if model.bypass is not None:
        raise NetError(
            f"the model has the bypass {model.bypass!r}, and a Deep Compression file holds "
            "convolutions alone: it would be read as a net without one. Write .safetensors."
        )
    with torch.no_grad():
        if not all(model(batch).isfinite().all() for batch in _batches(images[:PROBED])):
            raise WeightsError(
                "the model's logits on the calibration images hold infinity or NaN; it diverged "
                "in training or is damaged, and cannot be compressed"
            )
    rng = torch.Generator().manual_seed(seed)
    report("measuring what each layer can spare")
    with torch.no_grad():
        curves = _curves(model, images, rng)
        budgets = {c.name: b for c, b in zip(curves, share_out(curves, size), strict=True)}
        return _Compressor(model, rng, report).run(images, budgets)


def convolutions(model: SqueezeNet) -> dict[str, nn.Conv2d]:
    """The convolutions by name, in the order of the net and of the file."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def _curves(model: SqueezeNet, images: Tensor, rng: torch.Generator) -> list[Curve]:
    """How much the logits change as each layer alone is pruned to SHARES of its weights."""
    changes = dict(_changes(model, images, rng))
    squares = {name: torch.zeros(len(SHARES)) for name in changes}
    for batch in _batches(images[:PROBED]):
        for name, probe in _probe(model, batch, rng).items():
            conv = convolutions(model)[name]
            for index, change in enumerate(changes[name]):
                weight = change[:, :-1].reshape(conv.weight.shape)
                output = F.conv2d(probe.inputs, weight, change[:, -1], conv.stride, conv.padding)
                squares[name][index] += (output * probe.gradients).sum((1, 2, 3)).square().sum()
    return [
        Curve(name, conv.weight.numel(), conv.out_channels, SHARES, squares[name].tolist())
        for name, conv in convolutions(model).items()
    ]


def _changes(
    model: SqueezeNet, images: Tensor, rng: torch.Generator
) -> Iterator[tuple[str, list[Tensor]]]:
    """What pruning to SHARES changes of the matrix of each layer, by name."""
    inputs = images
    for stage in _stages(model):
        for name in stage.convolutions:
            conv = convolutions(model)[name]
            moment, matrix = _moments(conv, conv, inputs, inputs, rng)
            counts = [max(1, round(share * conv.weight.numel())) for share in SHARES]
            yield name, [pruned - matrix for pruned in prune(moment, matrix, counts)]
        inputs = _in_batches(stage.forward, inputs)


class _Probe(NamedTuple):
    """What a convolution read, and how a direction in the logits depends on what it gave."""

    inputs: Tensor
    gradients: Tensor


def _probe(model: SqueezeNet, images: Tensor, rng: torch.Generator) -> dict[str, _Probe]:
    """The probes of all convolutions, for a direction that is random for each image."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def record(name: str, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        inputs[name], outputs[name] = args[0].detach(), output
        return output.clone()  # The ReLU that follows works in place.

    hooks = [
        conv.register_forward_hook(lambda _, args, output, name=name: record(name, args, output))
        for name, conv in convolutions(model).items()
    ]
    try:
        with torch.enable_grad():
            logits = model(images.clone().requires_grad_())
            directions = torch.randn(logits.shape, generator=rng)
            gradients = torch.autograd.grad((logits * directions).sum(), list(outputs.values()))
    finally:
        for hook in hooks:
            hook.remove()
    return {n: _Probe(inputs[n], g) for n, g in zip(outputs, gradients, strict=True)}


@dataclass
class _Compressor:
    """Goes through the net once, the original beside the copy that is compressed."""

    original: SqueezeNet
    rng: torch.Generator
    report: Report

    def run(self, images: Tensor, budgets: Mapping[str, int]) -> Compressed:
        """Compress every layer to its budget in bytes; what one leaves over the next may use."""
        model = copy.deepcopy(self.original)
        layers = []
        spare = 0
        theirs = ours = images
        for before, after in zip(_stages(self.original), _stages(model), strict=True):
            for name in before.convolutions:
                old, new = convolutions(self.original)[name], convolutions(model)[name]
                moments = _moments(new, old, ours, theirs, self.rng)
                layer = self._fit(name, new, moments, budgets[name] + spare)
                spare += budgets[name] - coded_size(layer)
                layers.append(layer)
            theirs, ours = _in_batches(before.forward, theirs), _in_batches(after.forward, ours)
        return Compressed(layers, model)

    def _fit(
        self, name: str, conv: nn.Conv2d, moments: tuple[Tensor, Tensor], budget: int
    ) -> CodedLayer:
        """Prune and share the weights of ``conv``, which is given the values of the file."""
        moment, target = moments
        weights = conv.weight.numel()
        count = min(weights, 2 * (budget - fixed_bytes(conv.out_channels)) // 3)
        while True:
            share = count / weights
            counts = [round(weights * share ** (step / STEPS)) for step in range(1, STEPS + 1)]
            matrix = target
            if count < weights:
                *_, matrix = prune(moment, target, counts)
            layer = _coded(matrix, conv)
            excess = coded_size(layer) - budget
            if excess <= 0:
                break
            # Fillers took more than there is: 3 bytes hold 2 weights.
            count -= max(1, round(excess * 2 / 3))
        self.report(f"{name}: {count} of {weights} weights ({count / weights:.0%})")
        _assign(conv, layer)
        return layer


def _moments(
    conv: nn.Conv2d, original: nn.Conv2d, ours: Tensor, theirs: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The damped moment of the patches in ``ours``, and the matrix that fits ``theirs`` best.

    The best matrix maps the patches of ``ours`` to what the original makes of ``theirs``,
    and is drawn to the original's by the damping.
    """
    matrix = as_matrix(original)
    size = matrix.shape[1]
    moment = torch.zeros(size, size, dtype=torch.float64)
    crossed = torch.zeros(len(matrix), size, dtype=torch.float64)
    sampled = 0
    for x, y in zip(_batches(ours), _batches(theirs), strict=True):
        total = output_places(conv, x)
        places = torch.randperm(total, generator=rng)[: max(1, PLACES * len(x) // len(ours))]
        patches = sample_patches(conv, x, places)
        outputs = (patches if ours is theirs else sample_patches(conv, y, places)) @ matrix.T
        moment += patches.T @ patches
        crossed += outputs.T @ patches
        sampled += len(patches)
    moment, crossed = moment / sampled, crossed / sampled
    damping = torch.full((size,), DAMPING * float(moment.diagonal()[:-1].mean()) + 1e-12)
    damping[-1] = 0
    damped = moment + torch.diag(damping)
    target = torch.linalg.solve(damped, (crossed + matrix * damping).T).T
    return damped.float(), target.float()


def _coded(matrix: Tensor, conv: nn.Conv2d) -> CodedLayer:
    """Give the weights of a pruned matrix the values of a codebook."""
    values = matrix[:, :-1].reshape(conv.weight.shape).numpy()
    kept = values != 0
    centres = cluster(values[kept], CODEBOOK - 1)
    codebook = np.zeros(CODEBOOK, np.float32)
    codebook[1 : len(centres) + 1] = centres
    codes = np.zeros(values.shape, np.uint8)
    codes[kept] = nearest(values[kept], centres) + 1
    return CodedLayer(codebook, codes, matrix[:, -1].numpy().copy())


def cluster(values: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
    """At most ``count`` centres for ``values``, ascending: a local optimum of the squared error.

    Lloyd's algorithm, from centres that stand half evenly over the range and half evenly
    among the values: large weights are few and matter, small ones are many. On sorted values
    a cluster is an interval, so a step takes two searches and a sum. No more distinct values
    than ``count`` are their own centres.
    """
    ordered = np.sort(values.astype(np.float64), axis=None)
    distinct = np.unique(ordered)
    if len(distinct) <= count:
        return distinct.astype(np.float32)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = _first_centres(ordered, count)
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        sizes = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(sizes, 1)
        moved = np.sort(np.where(sizes > 0, means, centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
    used = np.unique(np.searchsorted((centres[1:] + centres[:-1]) / 2, ordered))
    return np.unique(centres[used].astype(np.float32))


def nearest(values: NDArray[np.floating[Any]], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """The index of the nearest of ``centres``, which ascend, for each value."""
    middles = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.int64)


def _first_centres(ordered: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    even = np.linspace(ordered[0], ordered[-1], count // 2)
    dense = np.quantile(ordered, (np.arange(count - len(even)) + 0.5) / (count - len(even)))
    return np.sort(np.concatenate([even, dense]))


def _assign(conv: nn.Conv2d, layer: CodedLayer) -> None:
    assert conv.bias is not None
    conv.weight.copy_(torch.from_numpy(layer.codebook[layer.codes]))
    conv.bias.copy_(torch.from_numpy(layer.bias))


def _stages(model: SqueezeNet) -> Iterator[_Stage]:
    """The net from one layer of convolutions to the next; the last gives what is not used."""

    def first(x: Tensor) -> Tensor:
        y: Tensor = model.pool1(model.conv1(x).relu_())
        return y

    yield _Stage(("conv1",), first)
    for name, fire in model.named_children():
        if isinstance(fire, Fire):
            number = name.removeprefix("fire")
            yield from _fire_stages(name, fire, getattr(model, f"pool{number}", nn.Identity()))
    yield _Stage(("conv10",), nn.Identity())


def _fire_stages(name: str, fire: Fire, pool: nn.Module) -> Iterator[_Stage]:
    def squeeze(x: Tensor) -> Tensor:
        y: Tensor = fire.squeeze1x1(x)
        return y.relu_()

    def expand(x: Tensor) -> Tensor:
        y: Tensor = pool(torch.cat([fire.expand1x1(x), fire.expand3x3(x)], 1).relu_())
        return y

    yield _Stage((f"{name}.squeeze1x1",), squeeze)
    yield _Stage((f"{name}.expand1x1", f"{name}.expand3x3"), expand)


def _in_batches(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([forward(batch) for batch in _batches(x)])


def _batches(x: Tensor) -> list[Tensor]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]
