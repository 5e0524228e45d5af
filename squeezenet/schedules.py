"""Learning rates as functions of the step: Caffe's policies, and cosine with warm-up."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from caffe2torch.errors import NetError


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
