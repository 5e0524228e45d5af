"""A Caffe ``solver.prototxt`` as settings of a training run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from caffe2torch.data.source import Reading
from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message
from caffe2torch.training.net import layers_of
from caffe2torch.training.solver import TRAIN_NETS, NetOf, Solver
from caffe2torch.training.solver import read_solver as read_caffes

READ = {
    *TRAIN_NETS, "base_lr", "lr_policy", "gamma", "power", "stepsize", "stepvalue", "max_iter",
    "type", "solver_type", "momentum", "momentum2", "delta", "rms_decay", "weight_decay",
    "regularization_type", "clip_gradients", "iter_size", "random_seed", "display", "test_interval",
    "snapshot", "average_loss", "train_state",
}  # fmt: skip
"""Fields of SolverParameter that are mapped."""
IDLE = {
    "solver_mode": "--device says where to compute",
    "device_id": "--device says where to compute",
    "snapshot_prefix": "checkpoints go to --out",
    "snapshot_format": "checkpoints are last.pt and best.pt",
    "snapshot_after_train": "last.pt is always written at the end",
    "test_iter": "a validation takes each image once",
    "test_initialization": "validations follow updates",
    "weights": "--pretrained names the weights to start from",
}
"""Why a field has no effect, of those that are not mapped; the others belong to test nets."""


def read_solver(path: Path) -> tuple[dict[str, Any], Solver]:
    """The settings that a solver and its training net ask for, and the solver.

    The solver is read as ``caffe2torch train`` does, but that it may name no net; its ``idle`` are
    the fields without effect in ``squeezenet train``. Rate, policy, type, decay, clipping,
    intervals and seed are the solver's, with Caffe's defaults where a default changes what is
    learned; batch size, transform and the multipliers of each layer are the net's, for which a new
    classifier is filled at random, as in Caffe.
    """
    solver = read_caffes(path, needs_net=False)
    idle = {
        field: IDLE.get(field, "validation has --val-list and --val-protocol")
        for field in solver.given
        if field not in READ
    }
    settings = {**_solver_settings(solver), **_net_settings(solver.train)}
    return settings, replace(solver, idle=idle | solver.idle)


def _solver_settings(solver: Solver) -> dict[str, Any]:
    schedule = solver.schedule
    if solver.clip_gradients == 0:
        raise NetError(
            f"{solver.path}: clip_gradients is 0, with which nothing is learned: remove it"
        )
    settings = {
        "lr": schedule.base_lr,
        "schedule": schedule.policy,
        "gamma": schedule.gamma,
        "power": schedule.power,
        "stepsize": schedule.stepsize,
        "stepvalue": schedule.stepvalue,
        "max_iter": solver.max_iter,
        "solver_type": solver.type,
        "momentum": solver.momentum,
        "momentum2": solver.momentum2,
        "delta": solver.delta,
        "rms_decay": solver.rms_decay,
        "weight_decay": solver.weight_decay,
        "regularization": solver.regularization_type,
        "iter_size": solver.iter_size,
        # Caffe clips the sum over iter_size passes; these settings clip the mean.
        "clip": max(0.0, _plain(solver.clip_gradients) / solver.iter_size),
    }
    if "random_seed" in solver.given:
        settings["seed"] = solver.seed
    if "average_loss" in solver.given:
        settings["average_loss"] = solver.average_loss
    # 0 is never in Caffe, which these intervals are not to be.
    intervals = {
        "log_every": solver.display,
        "eval_every": solver.test_interval,
        "snapshot": solver.snapshot,
    }
    settings |= {name: steps for name, steps in intervals.items() if steps}
    return {name: _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    # Fields are float32: the shortest decimal that rounds to one is what the file says.
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _net_settings(described: NetOf) -> dict[str, Any]:
    layers = layers_of(described.net, described.state).layer
    if not layers:
        return {}
    # The rates of the net are those for a layer that Caffe fills.
    settings: dict[str, Any] = {"classifier": "random"}
    multipliers: dict[str, list[tuple[str, float]]] = {"lr_mult": [], "decay_mult": []}
    for layer in layers:
        if layer.type in ("Data", "ImageData"):
            settings.update(_data_settings(layer, Reading("TRAIN", described.folder)))
        for name, param in zip(("weight", "bias"), layer.param, strict=False):
            key = f"{layer.name.replace('/', '.')}.{name}"
            for kind, pairs in multipliers.items():
                if param.HasField(kind):
                    pairs.append((key, _plain(getattr(param, kind))))
    return {**settings, **{kind: tuple(pairs) for kind, pairs in multipliers.items()}}


def _data_settings(layer: Message, reading: Reading) -> dict[str, Any]:
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
        settings["mean"] = str(reading.find(transform.mean_file))
    elif transform.mean_value:
        mean = tuple(_plain(value) for value in transform.mean_value)
        settings["mean"] = mean * 3 if len(mean) == 1 else mean
    else:
        settings["mean"] = (0.0, 0.0, 0.0)
    return settings
