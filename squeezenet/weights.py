"""SqueezeNet with trained weights: the published ones, or those of any file that holds them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import caffe2torch
from caffe2torch.errors import WeightsError
from caffe2torch.preprocessing import Preprocessing
from squeezenet.checkpoint import damage_named, is_checkpoint, load_checkpoint
from squeezenet.config import TrainConfig
from squeezenet.deploy import find_architecture
from squeezenet.download import cache_folder, fetch, read_manifest
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import PREPROCESSING, Transform, complete
from squeezenet.recognise import recognise


def load_pretrained(
    version: str = "1.1",
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
    num_classes: int | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> SqueezeNet:
    """A SqueezeNet with trained weights, in test mode.

    Args:
        version: "1.0" or "1.1"; a file must hold that version.
        weights: a .caffemodel, a Deep Compression file (.net), or what ``caffe2torch
            convert`` made of one (.pt or .safetensors); the file decides the bypass. None:
            the published weights, fetched at first use, kept in the cache, and checked at
            each use.
        device: where the model is put.
        num_classes: other than the weights have (1000 if published): conv10 is replaced by
            a freshly filled one for so many classes. None keeps the weights' own.
        cache_dir: instead of $CAFFE2TORCH_CACHE or the user's cache folder.

    Raises:
        Caffe2TorchError: the file is no SqueezeNet of that version, or the published
            weights can neither be found in the cache nor fetched.
    """
    find_architecture(version)
    if weights is None:
        model = load_weights(fetch(read_manifest(version), cache_folder(cache_dir)))
    else:
        model = load_weights(weights)
        if model.version != version:
            raise WeightsError(
                f"{os.fspath(weights)} holds SqueezeNet {model.version}, not {version}: "
                f"call load_pretrained({model.version!r}, ...)"
            )
    if num_classes not in (None, model.num_classes):
        model.replace_classifier(num_classes)
    return model.to(device)


def load_weights(path: str | os.PathLike[str]) -> SqueezeNet:
    """The SqueezeNet that a .caffemodel or a converted file holds, of whichever version."""
    path = Path(path)
    graph = caffe2torch.read(path)
    spec = recognise(graph)
    if spec is None:
        raise WeightsError(
            f"{path} is not a SqueezeNet 1.0 or 1.1: its layers, their parameters or their "
            "connections differ. caffe2torch.load loads any Caffe net."
        )
    model = SqueezeNet(
        spec.version,
        bypass=spec.bypass,
        num_classes=spec.num_classes,
        preprocessing=complete(graph.preprocessing, path),
    )
    state = {own: torch.from_numpy(np.array(graph.params[key])) for key, own in spec.params.items()}
    model.load_state_dict(state)
    return model.eval()


@dataclass(frozen=True)
class Loaded:
    """A model in test mode, the transform that makes its input, and its classes' names."""

    model: SqueezeNet
    transform: Transform
    class_names: tuple[str, ...] = ()


def load_model(
    path: Path,
    *,
    version: str | None = None,
    bypass: str | None = None,
    dropout: float = 0.5,
) -> Loaded:
    """Load a checkpoint of ``squeezenet train`` or any weights that ``load_weights`` takes.

    Of a checkpoint with averaged weights, those are taken. ``version`` and ``bypass``, if
    given, must be the file's own, but a net with bypass may start from weights without one.
    """
    if is_checkpoint(path):
        loaded = _from_checkpoint(path)
    else:
        converted = load_weights(path)
        loaded = Loaded(converted, Transform(converted.preprocessing))
    model = loaded.model
    if version is not None and version != model.version:
        raise WeightsError(f"{path} is a SqueezeNet {model.version}, not {version}")
    if bypass is not None and bypass != model.bypass:
        if model.bypass is not None:
            raise WeightsError(f"{path} has the bypass {model.bypass!r}, not {bypass!r}")
        state = model.state_dict()
        model = SqueezeNet(model.version, bypass=bypass, num_classes=model.num_classes)
        model.load_state_dict(state, strict=False)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return Loaded(model.eval(), loaded.transform, loaded.class_names)


def model_to_train(
    config: TrainConfig, num_classes: int, report: Callable[[str], None]
) -> tuple[SqueezeNet, nn.Conv2d | None]:
    """A new model, or one with the weights of ``pretrained``.

    If the classes differ its classifier is new, and the old one comes with it.

    Raises WeightsError for weights that want other images than training gives.
    """
    if config.pretrained is None:
        model = SqueezeNet(
            config.version, bypass=config.bypass, num_classes=num_classes, dropout=config.dropout
        )
        return model, None
    loaded = load_model(
        Path(config.pretrained),
        version=config.version,
        bypass=config.bypass,
        dropout=config.dropout,
    )
    model, made = loaded.model, loaded.transform.preprocessing
    if made.channel_order != "BGR" or made.std:
        raise WeightsError(
            f"{config.pretrained} takes {made.channel_order} images, normalised; training "
            "feeds blue first. Start from weights that were converted without --input."
        )
    if model.num_classes == num_classes:
        return model, None
    report(
        f"the classifier is new: {config.pretrained} has {model.num_classes} classes, "
        f"the data {num_classes}"
    )
    old = model.conv10
    model.replace_classifier(num_classes)
    return model, old


def _from_checkpoint(path: Path) -> Loaded:
    state = load_checkpoint(path)
    with damage_named(path):
        architecture, weights = dict(state["architecture"]), state["ema"] or state["model"]
        said, held = architecture["num_classes"], len(weights["conv10.bias"])
        if said != held:  # A damaged file could say any number, and the net would be as large.
            raise ValueError(f"it says {said} classes and holds {held}")
        architecture.pop("name")
        model = SqueezeNet(architecture.pop("version"), **architecture)
        model.load_state_dict(weights)
        made = Preprocessing.from_record(state["preprocessing"]) or PREPROCESSING
        return Loaded(model, Transform(made), tuple(state["class_names"]))
