"""SqueezeNet with trained weights: the published ones, or those of a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import caffe2torch
from caffe2torch.errors import WeightsError
from squeezenet.architecture import find_architecture
from squeezenet.download import cache_folder, fetch
from squeezenet.manifest import read_manifest
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import complete
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


CONTENT_ERRORS = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)
"""What may come of values that a file holds in place of those that belong there."""


def check_classes(architecture: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Raise ValueError unless ``state`` has the classes that ``architecture`` says.

    Before the net is made: a damaged file could say any number, and the net would be as large.
    """
    held = len(state["conv10.bias"])
    if architecture["num_classes"] != held:
        raise ValueError(f"it says {architecture['num_classes']} classes and holds {held}")
