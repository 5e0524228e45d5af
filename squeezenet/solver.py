"""A Caffe ``solver.prototxt`` as settings of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caffe2torch.errors import NetError, ReadError
from caffe2torch.io.files import text_of
from caffe2torch.io.prototxt import parse_prototxt, read_prototxt
from caffe2torch.io.schema import Message, enum_name, enum_value
from caffe2torch.training.rules import SOLVER_TYPES

SAME = {
    "base_lr": "lr",
    "lr_policy": "schedule",
    "regularization_type": "regularization",
    "display": "log_every",
    "test_interval": "eval_every",
    **{name: name for name in (
        "max_iter", "gamma", "power", "stepsize", "momentum", "momentum2", "delta", "rms_decay",
        "weight_decay", "iter_size", "snapshot",
    )},
}  # fmt: skip
"""Fields of SolverParameter that are a setting, and its name."""

DIFFERENT = {
    "net", "train_net", "net_param", "train_net_param", "type", "solver_type", "stepvalue",
    "clip_gradients", "random_seed",
}  # fmt: skip
"""Fields that are mapped, but not one to one."""


def read_solver(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The settings that a solver and its training net ask for, and the fields without effect.

    Learning rate, schedule, solver type, decay, clipping, intervals and seed are the
    solver's; batch size, transform and the multipliers of each layer are the net's, which is
    looked for from the solver's folder and from the current one, as Caffe does.
    """
    try:
        text = text_of(path.read_bytes(), str(path))
    except OSError as error:
        raise ReadError(f"cannot read the solver {path}: {error}") from error
    solver = parse_prototxt(text, str(path), message="SolverParameter")
    settings = {
        setting: _plain(getattr(solver, field))
        for field, setting in SAME.items()
        if solver.HasField(field)
    }
    for needed in ("base_lr", "lr_policy", "max_iter"):
        if not solver.HasField(needed):
            raise NetError(f"{path}: the solver sets no {needed}, without which Caffe cannot train")
    for absent, setting in (("gamma", "gamma"), ("power", "power"), ("momentum", "momentum")):
        if not solver.HasField(absent):
            settings[setting] = 0.0  # Caffe's default, which is not that of these options
    settings.setdefault("weight_decay", 0.0)
    settings["solver_type"] = _solver_type(solver)
    settings["stepvalue"] = tuple(solver.stepvalue)
    if solver.random_seed >= 0:
        settings["seed"] = int(solver.random_seed)
    settings["clip"] = _clip(solver)
    settings.update(_net_settings(_training_net(solver, path)))
    ignored = [
        field.name
        for field, _ in solver.ListFields()
        if field.name not in SAME and field.name not in DIFFERENT
    ]
    return settings, ignored


def _plain(value: Any) -> Any:
    # Fields are float32: the shortest decimal that rounds to one is what the file says.
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _solver_type(solver: Message) -> str:
    if solver.HasField("solver_type") and not solver.HasField("type"):
        # The older field is an enum: the same names in capitals.
        by_enum = {name.upper(): name for name in SOLVER_TYPES}
        return by_enum[enum_name(solver, "solver_type")]
    return str(solver.type)


def _clip(solver: Message) -> float:
    """Caffe clips the sum over iter_size passes; these settings clip the mean."""
    if solver.clip_gradients == 0:
        raise NetError("clip_gradients is 0, with which nothing is learned: remove it")
    return max(0.0, float(_plain(solver.clip_gradients)) / int(solver.iter_size))


def _training_net(solver: Message, path: Path) -> Message | None:
    for field in ("net_param", "train_net_param"):
        if solver.HasField(field):
            return getattr(solver, field)
    name = solver.net or solver.train_net
    if not name:
        return None
    for folder in (path.parent, Path()):
        if (folder / name).is_file():
            return read_prototxt(folder / name)
    raise ReadError(
        f"{path} trains the net {name!r}, which is neither beside it nor in the current "
        "folder: put it there, its layers hold the multipliers and the batch size"
    )


def _net_settings(net: Message | None) -> dict[str, Any]:
    if net is None:
        return {}
    settings: dict[str, Any] = {}
    multipliers: dict[str, list[tuple[str, float]]] = {"lr_mult": [], "decay_mult": []}
    for layer in net.layer:
        if layer.type in ("Data", "ImageData") and _in_training(layer):
            settings.update(_data_settings(layer))
        for name, param in zip(("weight", "bias"), layer.param, strict=False):
            key = f"{layer.name.replace('/', '.')}.{name}"
            for kind, pairs in multipliers.items():
                if param.HasField(kind):
                    pairs.append((key, _plain(getattr(param, kind))))
    return {**settings, **{kind: tuple(pairs) for kind, pairs in multipliers.items()}}


def _in_training(layer: Message) -> bool:
    train = enum_value("Phase", "TRAIN")
    phases = [rule.phase for rule in layer.include if rule.HasField("phase")]
    excluded = [rule.phase for rule in layer.exclude if rule.HasField("phase")]
    return (not phases or train in phases) and train not in excluded


def _data_settings(layer: Message) -> dict[str, Any]:
    data = layer.data_param if layer.type == "Data" else layer.image_data_param
    transform = layer.transform_param
    settings: dict[str, Any] = {
        "batch_size": int(data.batch_size),
        "protocol": "caffe",
        "mirror": bool(transform.mirror),
        "scale": _plain(transform.scale),
    }
    if transform.crop_size:
        settings["crop"] = int(transform.crop_size)
    if transform.mean_file:
        settings["mean"] = transform.mean_file
    elif transform.mean_value:
        mean = tuple(_plain(value) for value in transform.mean_value)
        settings["mean"] = mean * 3 if len(mean) == 1 else mean
    else:
        settings["mean"] = (0.0, 0.0, 0.0)
    return settings
