"""From gradients to weights: what is trained, Caffe's solvers as optimisers, the average."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from caffe2torch.errors import NetError
from caffe2torch.training.rules import SOLVER_TYPES, Multipliers


class CaffeOptimiser(torch.optim.Optimizer):
    """Updates w by Caffe's rule of the name ``type`` (SGDSolver::ApplyUpdate).

    All gradients together are scaled down to the norm ``clip_gradients`` if they exceed it
    (none if it is negative), and then each divided by ``iter_size``, over which passes they
    were summed. Each gets the weight decay, ``decay * w`` ("L2") or ``decay * sign(w)``
    ("L1"); the rule turns it into an update, which is subtracted. A parameter's ``grad`` is its
    update afterwards, as Caffe's diff is. One without a gradient counts as having 0.

    A parameter group's ``lr`` and ``weight_decay`` are its own: the solver's, times ``lr_mult``
    and ``decay_mult``. Its ``iteration`` counts the updates.
    """

    def __init__(
        self,
        params: Iterable[Any],
        type: str = "SGD",
        *,
        lr: float = 0.01,
        momentum: float = 0.0,
        momentum2: float = 0.999,
        delta: float = 1e-8,
        rms_decay: float = 0.99,
        weight_decay: float = 0.0,
        regularization: str = "L2",
        clip_gradients: float = -1.0,
        iter_size: int = 1,
    ) -> None:
        if type not in SOLVER_TYPES:
            raise NetError(f"there is no solver type {type!r}: choose {', '.join(SOLVER_TYPES)}")
        if momentum and "momentum" not in SOLVER_TYPES[type].reads:
            raise NetError(f"the {type} solver has no momentum: it is {momentum:g}, set it to 0")
        if "rms_decay" in SOLVER_TYPES[type].reads and not 0 <= rms_decay < 1:
            raise NetError(f"rms_decay is {rms_decay:g}: it must be at least 0 and less than 1")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "momentum2": momentum2,
            "delta": delta,
            "rms_decay": rms_decay,
            "weight_decay": weight_decay,
            "iteration": 0,
        }
        super().__init__(params, defaults)
        self.type = SOLVER_TYPES[type]
        self.regularization = regularization
        self.clip_gradients, self.iter_size = clip_gradients, iter_size
        decayed = any(group["weight_decay"] for group in self.param_groups)
        if regularization not in ("L1", "L2") and decayed:
            raise NetError(f"regularization_type is {regularization!r}: it must be L1 or L2")

    def history(self, parameter: nn.Parameter) -> list[Tensor]:
        """What the rule remembers of a parameter, in the order of ``SolverType.history``."""
        state = self.state[parameter]
        for name in self.type.history:
            if name not in state:
                state[name] = torch.zeros_like(parameter)
        return [state[name] for name in self.type.history]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the next step, before each group's ``lr_mult``."""
        for group in self.param_groups:
            group["lr"] = rate * group["lr_mult"]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Subtract one update from every parameter."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
        self._clip()
        for group in self.param_groups:
            for parameter in group["params"]:
                self._update(parameter, group)
            group["iteration"] += 1
        return loss

    def _clip(self) -> None:
        if self.clip_gradients < 0:
            return
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norm = torch.linalg.vector_norm(
            torch.stack([torch.linalg.vector_norm(g) for g in gradients])
        )
        # Stays on the device: no pass waits for the number.
        factor = torch.where(norm > self.clip_gradients, self.clip_gradients / norm, 1.0)
        for gradient in gradients:
            gradient.mul_(factor)

    def _update(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient, decay = parameter.grad, group["weight_decay"]
        assert gradient is not None
        if self.iter_size != 1:
            gradient.mul_(1 / self.iter_size)
        if decay:
            penalty = parameter if self.regularization == "L2" else parameter.sign()
            gradient.add_(penalty, alpha=decay)
        self.history(parameter)
        gradient.copy_(self.type.rule(gradient, self.state[parameter], group))
        parameter.sub_(gradient)


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
    """One group for every pair of multipliers, with its ``lr_mult`` and ``weight_decay``.

    A parameter whose ``lr_mult`` is 0 is frozen: no gradient of it is computed, as in Caffe.
    """
    _check_matches(model, tuple(pattern for pattern, _ in lr_mult), "lr_mult")
    _check_matches(model, tuple(pattern for pattern, _ in decay_mult), "decay_mult")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        rate = _factor(name, lr_mult)
        if not rate:
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups.setdefault((rate, _factor(name, decay_mult)), []).append(parameter)
    if not groups:
        raise NetError("lr_mult leaves nothing to train: it is 0 for every parameter")
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


class WeightAverage:
    """Keeps ``average = decay * average + (1 - decay) * weights`` in a model of its own.

    In the first steps the decay is held down to (1 + step) / (10 + step), so that the
    starting weights do not linger.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - decay)
