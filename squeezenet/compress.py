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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import ArtefactError, NetError, ReadError, WeightsError
from caffe2torch.images import ImageError, find_images, read_image
from caffe2torch.io.atomic import atomic_group
from caffe2torch.io.deep_compression import CODEBOOK, SUFFIX, CodedLayer, coded_size, encode
from squeezenet.classifier import evaluate_files, open_classifier
from squeezenet.deploy import deploy_prototxt
from squeezenet.evaluate import Metrics
from squeezenet.model import Fire, SqueezeNet
from squeezenet.preprocess import Transform
from squeezenet.prune import (
    Curve,
    as_matrix,
    cluster,
    fixed_bytes,
    nearest,
    output_places,
    prune,
    sample_patches,
    share_out,
)
from squeezenet.weights import load_model

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

Report = Callable[[str], None]
_Stage = tuple[tuple[str, ...], Callable[[Tensor], Tensor]]
"""A part of the net: the convolutions that read its input, and what it makes of it."""


@dataclass(frozen=True)
class Compressed:
    """The layers of the file, in its order, and the model with the weights that it has."""

    layers: list[CodedLayer]
    model: SqueezeNet


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
        return _compress(model, images, budgets, rng, report)


def _compress(
    model: SqueezeNet,
    images: Tensor,
    budgets: Mapping[str, int],
    rng: torch.Generator,
    report: Report,
) -> Compressed:
    """Go through the net once, the original beside the copy that is compressed.

    Every layer gets its budget in bytes; what one leaves over the next may use.
    """
    compressed = copy.deepcopy(model)
    layers = []
    spare = 0
    theirs = ours = images
    for (names, before), (_, after) in zip(_stages(model), _stages(compressed), strict=True):
        for name in names:
            old, new = convolutions(model)[name], convolutions(compressed)[name]
            moment, target = _moments(new, old, ours, theirs, rng)
            layer, count = _fit(new, moment, target, budgets[name] + spare)
            weights = new.weight.numel()
            report(f"{name}: {count} of {weights} weights ({count / weights:.0%})")
            spare += budgets[name] - coded_size(layer)
            layers.append(layer)
        theirs, ours = _in_batches(before, theirs), _in_batches(after, ours)
    return Compressed(layers, compressed)


def convolutions(model: SqueezeNet) -> dict[str, nn.Conv2d]:
    """The convolutions by name, in the order of the net and of the file."""
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def _curves(model: SqueezeNet, images: Tensor, rng: torch.Generator) -> list[Curve]:
    """How much the logits change as each layer alone is pruned to SHARES of its weights."""
    changes = dict(_changes(model, images, rng))
    squares = {name: torch.zeros(len(SHARES)) for name in changes}
    for batch in _batches(images[:PROBED]):
        for name, (inputs, gradients) in _probe(model, batch, rng).items():
            conv = convolutions(model)[name]
            for index, change in enumerate(changes[name]):
                weight = change[:, :-1].reshape(conv.weight.shape)
                output = F.conv2d(inputs, weight, change[:, -1], conv.stride, conv.padding)
                squares[name][index] += (output * gradients).sum((1, 2, 3)).square().sum()
    return [
        Curve(name, conv.weight.numel(), conv.out_channels, SHARES, squares[name].tolist())
        for name, conv in convolutions(model).items()
    ]


def _changes(
    model: SqueezeNet, images: Tensor, rng: torch.Generator
) -> Iterator[tuple[str, list[Tensor]]]:
    """What pruning to SHARES changes of the matrix of each layer, by name."""
    inputs = images
    for names, forward in _stages(model):
        for name in names:
            conv = convolutions(model)[name]
            moment, matrix = _moments(conv, conv, inputs, inputs, rng)
            counts = [max(1, round(share * conv.weight.numel())) for share in SHARES]
            yield name, [pruned - matrix for pruned in prune(moment, matrix, counts)]
        inputs = _in_batches(forward, inputs)


def _probe(
    model: SqueezeNet, images: Tensor, rng: torch.Generator
) -> dict[str, tuple[Tensor, Tensor]]:
    """What each convolution read, and how the logits depend on what it gave.

    That is the gradient of the logits in a direction that is random for each image.
    """
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
    return {n: (inputs[n], g) for n, g in zip(outputs, gradients, strict=True)}


def _fit(conv: nn.Conv2d, moment: Tensor, target: Tensor, budget: int) -> tuple[CodedLayer, int]:
    """Prune and share the weights of ``conv``, which is given the values of the file.

    Also gives the number of weights that are left.
    """
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
    assert conv.bias is not None
    conv.weight.copy_(torch.from_numpy(layer.codebook[layer.codes]))
    conv.bias.copy_(torch.from_numpy(layer.bias))
    return layer, count


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


def _stages(model: SqueezeNet) -> Iterator[_Stage]:
    """The net from one layer of convolutions to the next; the last gives what is not used."""
    yield ("conv1",), lambda x: model.pool1(model.conv1(x).relu_())
    for name, fire in model.named_children():
        if isinstance(fire, Fire):
            pool = getattr(model, f"pool{name.removeprefix('fire')}", nn.Identity())
            yield (f"{name}.squeeze1x1",), partial(_squeeze, fire)
            yield (f"{name}.expand1x1", f"{name}.expand3x3"), partial(_expand, fire, pool)
    yield ("conv10",), nn.Identity()


def _squeeze(fire: Fire, x: Tensor) -> Tensor:
    squeezed: Tensor = fire.squeeze1x1(x)
    return squeezed.relu_()


def _expand(fire: Fire, pool: nn.Module, x: Tensor) -> Tensor:
    expanded: Tensor = pool(torch.cat([fire.expand1x1(x), fire.expand3x3(x)], 1).relu_())
    return expanded


def _in_batches(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return torch.cat([forward(batch) for batch in _batches(x)])


def _batches(x: Tensor) -> list[Tensor]:
    return [x[start : start + BATCH] for start in range(0, len(x), BATCH)]


@dataclass(frozen=True)
class Written:
    """The files that were written, and how many of the weights are in them."""

    files: tuple[Path, Path]
    kept: int
    weights: int


def compress_file(
    source: Path, path: Path, folder: Path, *, size: int, images: int, seed: int, report: Report
) -> Written:
    """Compress the model in ``source`` to at most ``size`` bytes at ``path``, a ``.net``.

    Up to ``images`` images from below ``folder`` calibrate it, chosen by ``seed``. The deploy
    prototxt is written beside the file, which does not say its net.
    """
    if path.suffix != SUFFIX:
        raise ArtefactError(
            f"{path}: a Deep Compression file is known by its name: end it in {SUFFIX}"
        )
    loaded = load_model(source)
    model = loaded.model
    chosen = read_calibration(folder, loaded.transform, images, seed, report)
    result = compress(model, chosen, size=size, seed=seed, report=report)
    prototxt = path.with_suffix(".prototxt")
    text = deploy_prototxt(model.version, None, model.num_classes, size=loaded.transform.crop)
    with atomic_group() as group:
        group.open(prototxt).write(text.encode())
        group.open(path).write(encode(result.layers))
    return Written(
        (path, prototxt),
        kept=sum(int(np.count_nonzero(layer.codes)) for layer in result.layers),
        weights=sum(layer.codes.size for layer in result.layers),
    )


def measure(path: Path, source: Path, data: Path, listing: str | None, report: Report) -> Metrics:
    """Evaluate ``path`` on a list, with input made as the model in ``source`` wants it."""
    classifier = replace(
        open_classifier(path, "torch", "cpu"), transform=load_model(source).transform
    )
    return evaluate_files(
        classifier, data, listing, batch_size=20, workers=0, on_bad_image="fail", report=report
    )


def read_calibration(
    folder: Path, transform: Transform, count: int, seed: int, report: Report
) -> Tensor:
    """Up to ``count`` images from below ``folder`` as input (N, 3, H, W), chosen by ``seed``.

    What cannot be decoded is reported and left out. Raises ReadError where nothing is left.
    """
    if not folder.is_dir():
        raise ReadError(f"{folder} is not a folder: give one with images to calibrate on")
    paths = find_images(folder)
    arrays: list[Tensor] = []
    for index in np.random.default_rng(seed).permutation(len(paths)):
        try:
            arrays.append(torch.from_numpy(transform(read_image(paths[index]), None)))
        except ImageError as error:
            report(f"bad image, skipped: {error}")
        if len(arrays) == count:
            break
    if not arrays:
        raise ReadError(f"{folder} holds no image to calibrate on")
    return torch.stack(arrays)
