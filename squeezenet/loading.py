"""A model from any file that holds one: a checkpoint of training, or converted weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from caffe2torch.errors import WeightsError
from caffe2torch.preprocessing import Preprocessing
from squeezenet.checkpoint import damage_named, is_checkpoint, load_checkpoint
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import PREPROCESSING
from squeezenet.transforms import Transform, read_transform
from squeezenet.weights import check_classes, load_weights


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
    checkpoint = is_checkpoint(path)
    loaded = _from_checkpoint(path) if checkpoint else _from_weights(path)
    model = loaded.model
    if version is not None and version != model.version:
        raise WeightsError(f"{path} is a SqueezeNet {model.version}, not {version}")
    if bypass is not None and bypass != model.bypass:
        model = _with_bypass(model, bypass, path)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return Loaded(model.eval(), loaded.transform, loaded.class_names)


def _from_weights(path: Path) -> Loaded:
    model = load_weights(path)
    return Loaded(model, Transform(model.preprocessing))


def _from_checkpoint(path: Path) -> Loaded:
    state = load_checkpoint(path)
    with damage_named(path):
        architecture, weights = dict(state["architecture"]), state["ema"] or state["model"]
        check_classes(architecture, weights)
        architecture.pop("name")
        model = SqueezeNet(architecture.pop("version"), **architecture)
        model.load_state_dict(weights)
        made = Preprocessing.from_record(state["preprocessing"]) or PREPROCESSING
        return Loaded(model, read_transform(made), tuple(state["class_names"]))


def _with_bypass(model: SqueezeNet, bypass: str, path: Path) -> SqueezeNet:
    if model.bypass is not None:
        raise WeightsError(f"{path} has the bypass {model.bypass!r}, not {bypass!r}")
    wider = SqueezeNet(model.version, bypass=bypass, num_classes=model.num_classes)
    wider.load_state_dict(model.state_dict(), strict=False)
    return wider
