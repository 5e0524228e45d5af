"""Caffe's learning-rate policies and solver types: registries that the command line chooses from.

Solver types follow BVLC Caffe's src/caffe/solvers/*.cpp. Nothing here imports torch before a step
is made: the command line takes its choices and help from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caffe2torch.errors import NetError

if TYPE_CHECKING:
    from torch import Tensor

Multipliers = tuple[tuple[str, float], ...]
"""Pairs of a parameter-name pattern (``conv10.*``) and a factor; later ones win."""


@dataclass(frozen=True)
class Schedule:
    """A learning-rate policy with its numbers, named as in Caffe's SolverParameter.

    ``warmup`` steps before it rise linearly to the policy's rate; Caffe has none.
    """

    policy: str = "cosine"
    base_lr: float = 0.01
    max_iter: int = 1
    gamma: float = 0.1
    power: float = 1.0
    stepsize: int = 1
    stepvalue: tuple[int, ...] = ()
    warmup: int = 0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise NetError(f"there is no lr_policy {self.policy!r}: choose {', '.join(POLICIES)}")
        if "stepsize" in POLICIES[self.policy].reads and self.stepsize < 1:
            raise NetError(f"lr_policy {self.policy!r} needs a positive stepsize")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rate = self.base_lr * POLICIES[self.policy].factor(self, step)
        return rate * min(1.0, (step + 1) / (self.warmup + 1))


@dataclass(frozen=True)
class Policy:
    """The factor of ``base_lr`` at a step, and which fields of the schedule it reads."""

    factor: Callable[[Schedule, int], float]
    reads: tuple[str, ...]


POLICIES: dict[str, Policy] = {}
"""By name; ``register_policy`` adds to them, and the choices of the command line are these."""


def register_policy(
    name: str, *reads: str
) -> Callable[[Callable[[Schedule, int], float]], Callable[[Schedule, int], float]]:
    """Decorator: make a function of the schedule and the step the lr_policy ``name``.

    It gives the factor that multiplies ``base_lr``. ``reads`` are the fields of Schedule that
    it uses: help texts name it beside them, and ``stepsize`` among them must be positive.
    """

    def register(factor: Callable[[Schedule, int], float]) -> Callable[[Schedule, int], float]:
        POLICIES[name] = Policy(factor, reads)
        return factor

    return register


@register_policy("cosine")
def _cosine(schedule: Schedule, step: int) -> float:
    done = (step - schedule.warmup) / max(1, schedule.max_iter - schedule.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


@register_policy("fixed")
def _fixed(schedule: Schedule, step: int) -> float:
    return 1.0


@register_policy("step", "gamma", "stepsize")
def _step(schedule: Schedule, step: int) -> float:
    return schedule.gamma ** (step // schedule.stepsize)


@register_policy("multistep", "gamma", "stepvalue")
def _multistep(schedule: Schedule, step: int) -> float:
    return schedule.gamma ** sum(step >= value for value in schedule.stepvalue)


@register_policy("exp", "gamma")
def _exp(schedule: Schedule, step: int) -> float:
    return schedule.gamma**step


@register_policy("inv", "gamma", "power")
def _inv(schedule: Schedule, step: int) -> float:
    return float((1 + schedule.gamma * step) ** -schedule.power)


@register_policy("poly", "power")
def _poly(schedule: Schedule, step: int) -> float:
    return float((1 - min(step / schedule.max_iter, 1.0)) ** schedule.power)


@register_policy("sigmoid", "gamma", "stepsize")
def _sigmoid(schedule: Schedule, step: int) -> float:
    exponent = -schedule.gamma * (step - schedule.stepsize)
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))


State = dict[str, Any]
Group = dict[str, Any]
Rule = Callable[["Tensor", State, Group], "Tensor"]


@dataclass(frozen=True)
class SolverType:
    """An update rule, and which of the solver's numbers it reads beside ``lr``."""

    rule: Rule
    reads: tuple[str, ...]


SOLVER_TYPES: dict[str, SolverType] = {}
"""By Caffe's name; ``register_solver_type`` adds to them, and the command line's are these."""


def register_solver_type(name: str, *reads: str) -> Callable[[Rule], Rule]:
    """Decorator: make a function the update rule of the solver type ``name``.

    It gets a parameter's gradient, the parameter's state (empty at first) and its group's
    numbers, and gives what is subtracted. ``reads`` are the numbers that it uses, of
    ``momentum``, ``momentum2``, ``delta`` and ``rms_decay``.
    """

    def register(rule: Rule) -> Rule:
        SOLVER_TYPES[name] = SolverType(rule, reads)
        return rule

    return register


def _history(state: State, name: str, like: Tensor) -> Tensor:
    if name not in state:
        import torch

        state[name] = torch.zeros_like(like)
    history: Tensor = state[name]
    return history


@register_solver_type("SGD", "momentum")
def _sgd(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H = momentum * h + lr * g; update h: a change of lr leaves the momentum as it is."""
    history = _history(state, "history", gradient)
    return history.mul_(group["momentum"]).add_(gradient, alpha=group["lr"])


@register_solver_type("Nesterov", "momentum")
def _nesterov(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H' = momentum * h + lr * g; update (1 + momentum) * h' - momentum * h."""
    previous = _history(state, "history", gradient).clone()
    history = _sgd(gradient, state, group)
    momentum = float(group["momentum"])
    return history * (1 + momentum) - previous * momentum


@register_solver_type("AdaGrad", "delta")
def _adagrad(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H = h + g^2; update lr * g / (sqrt(h) + delta)."""
    history = _history(state, "history", gradient).addcmul_(gradient, gradient)
    return gradient.mul(group["lr"]).div_(history.sqrt().add_(group["delta"]))


@register_solver_type("RMSProp", "delta", "rms_decay")
def _rmsprop(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H = rms_decay * h + (1 - rms_decay) * g^2; update lr * g / (sqrt(h) + delta)."""
    history = _decayed_square(gradient, state, "history", group["rms_decay"])
    return gradient.mul(group["lr"]).div_(history.sqrt().add_(group["delta"]))


@register_solver_type("AdaDelta", "momentum", "delta")
def _adadelta(gradient: Tensor, state: State, group: Group) -> Tensor:
    """Update lr * u, u = g * sqrt((d + delta) / (h + delta)).

    h and d are the decayed squares of g and of u.
    """
    history = _decayed_square(gradient, state, "history", group["momentum"])
    updates = _history(state, "updates", gradient)
    update: Tensor = gradient * ((updates + group["delta"]) / (history + group["delta"])).sqrt()
    _decayed_square(update, state, "updates", group["momentum"])
    return update.mul(group["lr"])


@register_solver_type("Adam", "momentum", "momentum2", "delta")
def _adam(gradient: Tensor, state: State, group: Group) -> Tensor:
    """Lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + delta).

    b1 is ``momentum``, b2 is ``momentum2``.
    """
    beta1, beta2 = group["momentum"], group["momentum2"]
    state["step"] = step = state.get("step", 0) + 1
    mean = _history(state, "history", gradient).mul_(beta1).add_(gradient, alpha=1 - beta1)
    square = _decayed_square(gradient, state, "square", beta2)
    correction = math.sqrt(1 - beta2**step) / (1 - beta1**step)
    return mean.mul(group["lr"] * correction).div_(square.sqrt().add_(group["delta"]))


def _decayed_square(value: Tensor, state: State, name: str, decay: float) -> Tensor:
    return _history(state, name, value).mul_(decay).addcmul_(value, value, value=1 - decay)
