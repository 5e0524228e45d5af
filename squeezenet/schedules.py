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
        if self.policy in ("step", "sigmoid") and self.stepsize < 1:
            raise NetError(f"lr_policy {self.policy!r} needs a positive stepsize")

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rate = self.base_lr * POLICIES[self.policy](self, step)
        return rate * min(1.0, (step + 1) / (self.warmup + 1))


def _poly(schedule: Schedule, step: int) -> float:
    return float((1 - min(step / schedule.max_iter, 1.0)) ** schedule.power)


def _cosine(schedule: Schedule, step: int) -> float:
    done = (step - schedule.warmup) / max(1, schedule.max_iter - schedule.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


def _sigmoid(schedule: Schedule, step: int) -> float:
    exponent = -schedule.gamma * (step - schedule.stepsize)
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))


POLICIES: dict[str, Callable[[Schedule, int], float]] = {
    "cosine": _cosine,
    "fixed": lambda schedule, step: 1.0,
    "step": lambda schedule, step: schedule.gamma ** (step // schedule.stepsize),
    "multistep": lambda schedule, step: (
        schedule.gamma ** sum(step >= value for value in schedule.stepvalue)
    ),
    "exp": lambda schedule, step: schedule.gamma**step,
    "inv": lambda schedule, step: (1 + schedule.gamma * step) ** -schedule.power,
    "poly": _poly,
    "sigmoid": _sigmoid,
}
"""The factor that multiplies base_lr at a step."""
