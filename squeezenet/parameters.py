"""Which parameters a run trains, and with which learning rate and decay."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from caffe2torch.errors import NetError
from squeezenet.config import Multipliers


def freeze(model: nn.Module, patterns: tuple[str, ...]) -> None:
    """Stop training the parameters whose names match."""
    _check_matches(model, patterns, "freeze")
    for name, parameter in model.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise NetError("freeze leaves nothing to train: every parameter matches")


def parameter_groups(
    model: nn.Module, weight_decay: float, lr_mult: Multipliers, decay_mult: Multipliers
) -> list[dict[str, Any]]:
    """One group for every pair of multipliers, with its ``lr_mult`` and ``weight_decay``."""
    _check_matches(model, tuple(pattern for pattern, _ in lr_mult), "lr_mult")
    _check_matches(model, tuple(pattern for pattern, _ in decay_mult), "decay_mult")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (_factor(name, lr_mult), _factor(name, decay_mult))
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": params, "lr_mult": rate, "weight_decay": weight_decay * decay}
        for (rate, decay), params in groups.items()
    ]


def _factor(name: str, multipliers: Multipliers) -> float:
    matching = [factor for pattern, factor in multipliers if fnmatchcase(name, pattern)]
    return matching[-1] if matching else 1.0


def _check_matches(model: nn.Module, patterns: tuple[str, ...], option: str) -> None:
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise NetError(
                f"{option} {pattern!r} matches no parameter of the net; "
                f"its parameters are {names[0]}, {names[1]}, ... {names[-1]}"
            )
