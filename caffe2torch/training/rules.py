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

    def rate(self, step: int, current_step: int | None = None) -> float:
        """The learning rate of a step, counted from 0.

        ``current_step`` is what ``advance`` gave for this step; by default that of a run
        from step 0.
        """
        if current_step is None:
            current_step = self.current_step(step)
        rate = self.base_lr * POLICIES[self.policy].factor(self, step, current_step)
        return rate * min(1.0, (step + 1) / (self.warmup + 1))

    def advance(self, step: int, current_step: int) -> int:
        """How often the rate has dropped at a step (SGDSolver::GetLearningRate, current_step_).

        ``current_step`` is that of the step before. With ``multistep`` it grows by one at most,
        once the next ``stepvalue`` is reached: a solver file that was changed before a run
        goes on does not undo the drops that there were.
        """
        if self.policy == "step":
            return step // self.stepsize
        drops = self.policy == "multistep" and current_step < len(self.stepvalue)
        return current_step + (drops and step >= self.stepvalue[current_step])

    def current_step(self, step: int) -> int:
        """``advance`` of every step from 0 to ``step``."""
        if self.policy != "multistep":
            return self.advance(step, 0)
        drops, count = -1, 0
        for value in self.stepvalue:
            drops = max(value, drops + 1)
            count += drops <= step
        return count


Factor = Callable[[Schedule, int, int], float]


@dataclass(frozen=True)
class Policy:
    """The factor of ``base_lr`` at a step, and which fields of the schedule it reads.

    ``in_caffe`` says whether a solver.prototxt may name it.
    """

    factor: Factor
    reads: tuple[str, ...]
    in_caffe: bool


POLICIES: dict[str, Policy] = {}
"""By name; ``register_policy`` adds to them, and the choices of the command line are these."""


def register_policy(name: str, *reads: str, in_caffe: bool = True) -> Callable[[Factor], Factor]:
    """Decorator: make a function of the schedule and the step the lr_policy ``name``.

    It gets the schedule, the step and how often the rate has dropped by then
    (``Schedule.advance``), and gives the factor that multiplies ``base_lr``. ``reads`` are
    the fields of Schedule that it uses: help texts name it beside them, and ``stepsize`` among
    them must be positive.
    """

    def register(factor: Factor) -> Factor:
        POLICIES[name] = Policy(factor, reads, in_caffe)
        return factor

    return register


@register_policy("cosine", in_caffe=False)
def _cosine(schedule: Schedule, step: int, current_step: int) -> float:
    done = (step - schedule.warmup) / max(1, schedule.max_iter - schedule.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))


@register_policy("fixed")
def _fixed(schedule: Schedule, step: int, current_step: int) -> float:
    return 1.0


@register_policy("multistep", "gamma", "stepvalue")
@register_policy("step", "gamma", "stepsize")
def _steps(schedule: Schedule, step: int, current_step: int) -> float:
    return _power(schedule.gamma, current_step)


@register_policy("exp", "gamma")
def _exp(schedule: Schedule, step: int, current_step: int) -> float:
    return _power(schedule.gamma, step)


@register_policy("inv", "gamma", "power")
def _inv(schedule: Schedule, step: int, current_step: int) -> float:
    return _power(1 + schedule.gamma * step, -schedule.power)


@register_policy("poly", "power")
def _poly(schedule: Schedule, step: int, current_step: int) -> float:
    # Beyond max_iter it is the power of a negative number, NaN if ``power`` is no whole number.
    import numpy as np

    with np.errstate(all="ignore"):
        return float((1 - np.float64(step) / schedule.max_iter) ** schedule.power)


@register_policy("sigmoid", "gamma", "stepsize")
def _sigmoid(schedule: Schedule, step: int, current_step: int) -> float:
    exponent = -schedule.gamma * (step - schedule.stepsize)
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))


def _power(base: float, exponent: float) -> float:
    """The power in C's arithmetic, which has infinities and NaN where Python raises."""
    import numpy as np

    with np.errstate(all="ignore"):
        return float(np.float64(base) ** exponent)


State = dict[str, Any]
Group = dict[str, Any]
Rule = Callable[["Tensor", State, Group], "Tensor"]


@dataclass(frozen=True)
class SolverType:
    """An update rule, and which of the solver's numbers it reads beside ``lr``.

    ``history`` are the names, in a parameter's state, of the tensors that go from one update to
    the next, in the order in which Caffe's solverstate has them.
    """

    rule: Rule
    reads: tuple[str, ...]
    history: tuple[str, ...]


SOLVER_TYPES: dict[str, SolverType] = {}
"""By Caffe's name; ``register_solver_type`` adds to them, and the command line's are these."""


def register_solver_type(
    name: str, *reads: str, history: tuple[str, ...] = ("history",)
) -> Callable[[Rule], Rule]:
    """Decorator: make a function the update rule of the solver type ``name``.

    It gets a parameter's gradient, the parameter's state (a tensor of zeros at first for each
    name in ``history``) and its group's numbers, and gives what is subtracted. ``reads`` are
    the numbers that it uses, of ``momentum``, ``momentum2``, ``delta`` and ``rms_decay``;
    ``lr`` and ``iteration``, the number of updates before this one, are there for all.
    """

    def register(rule: Rule) -> Rule:
        SOLVER_TYPES[name] = SolverType(rule, reads, history)
        return rule

    return register


@register_solver_type("SGD", "momentum")
def _sgd(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H = momentum * h + lr * g; update h: a change of lr leaves the momentum as it is."""
    history: Tensor = state["history"]
    return history.mul_(group["momentum"]).add_(gradient, alpha=group["lr"])


@register_solver_type("Nesterov", "momentum")
def _nesterov(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H' = momentum * h + lr * g; update (1 + momentum) * h' - momentum * h."""
    momentum, previous = float(group["momentum"]), state["history"].clone()
    history = _sgd(gradient, state, group)
    step_back: Tensor = previous.mul_(-momentum)
    return step_back.add_(history, alpha=1 + momentum)


@register_solver_type("AdaGrad", "delta")
def _adagrad(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H = h + g^2; update lr * g / (sqrt(h) + delta)."""
    history: Tensor = state["history"].addcmul_(gradient, gradient)
    return gradient.div(history.sqrt().add_(group["delta"])).mul_(group["lr"])


@register_solver_type("RMSProp", "delta", "rms_decay")
def _rmsprop(gradient: Tensor, state: State, group: Group) -> Tensor:
    """H = rms_decay * h + (1 - rms_decay) * g^2; update lr * g / (sqrt(h) + delta)."""
    history = _decayed_square(gradient, state["history"], group["rms_decay"])
    return gradient.div(history.sqrt().add_(group["delta"])).mul_(group["lr"])


@register_solver_type("AdaDelta", "momentum", "delta", history=("history", "updates"))
def _adadelta(gradient: Tensor, state: State, group: Group) -> Tensor:
    """Update lr * u, u = g * sqrt((d + delta) / (h + delta)).

    h and d are the decayed squares of g and of u.
    """
    history = _decayed_square(gradient, state["history"], group["momentum"])
    updates: Tensor = state["updates"]
    ratio = (updates + group["delta"]).div_(history + group["delta"])
    update: Tensor = ratio.sqrt_().mul_(gradient)
    _decayed_square(update, updates, group["momentum"])
    return update.mul_(group["lr"])


@register_solver_type("Adam", "momentum", "momentum2", "delta", history=("history", "square"))
def _adam(gradient: Tensor, state: State, group: Group) -> Tensor:
    """Lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + delta), t = iteration + 1.

    b1 is ``momentum``, b2 is ``momentum2``.
    """
    import numpy as np

    beta1, beta2, step = group["momentum"], group["momentum2"], group["iteration"] + 1
    mean: Tensor = state["history"].mul_(beta1).add_(gradient, alpha=1 - beta1)
    square = _decayed_square(gradient, state["square"], beta2)
    with np.errstate(all="ignore"):  # As in C, where a beta1 of 1 divides by 0.
        root = np.sqrt(1 - np.float64(beta2) ** step)
        correction = float(root / (1 - np.float64(beta1) ** step))
    return mean.div(square.sqrt().add_(group["delta"])).mul_(group["lr"] * correction)


def _decayed_square(value: Tensor, history: Tensor, decay: float) -> Tensor:
    return history.mul_(decay).addcmul_(value, value, value=1 - decay)
