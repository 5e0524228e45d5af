"""Caffe's solvers as torch optimisers: the same update, to the place of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from caffe2torch.errors import NetError

State = dict[str, Any]
Group = dict[str, Any]


class CaffeOptimiser(torch.optim.Optimizer):
    """Updates w by Caffe's rule of the name ``type``.

    The gradient first gets the weight decay, ``decay * w`` ("L2") or ``decay * sign(w)``
    ("L1"); the rule turns it into an update, which is subtracted. A parameter group's ``lr``
    and ``weight_decay`` are its own: the solver's, times ``lr_mult`` and ``decay_mult``.
    Follows BVLC Caffe's src/caffe/solvers/*.cpp.
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
    ) -> None:
        if type not in RULES:
            raise NetError(f"there is no solver type {type!r}: choose {', '.join(RULES)}")
        if regularization not in ("L1", "L2"):
            raise NetError(f"regularization_type is {regularization!r}: it must be L1 or L2")
        if type in ("AdaGrad", "RMSProp") and momentum:
            raise NetError(f"the {type} solver has no momentum: it is {momentum}, set it to 0")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "momentum2": momentum2,
            "delta": delta,
            "rms_decay": rms_decay,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)
        self.rule = RULES[type]
        self.regularization = regularization

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch overloads it
        """Subtract one update from every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient = self._regularise(parameter, group["weight_decay"])
                    parameter.sub_(self.rule(gradient, self.state[parameter], group))
        return loss

    def _regularise(self, parameter: Tensor, decay: float) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        if not decay:
            return gradient
        penalty = parameter if self.regularization == "L2" else parameter.sign()
        return gradient.add(penalty, alpha=decay)


def _history(state: State, name: str, like: Tensor) -> Tensor:
    if name not in state:
        state[name] = torch.zeros_like(like)
    history: Tensor = state[name]
    return history


def _sgd(gradient: Tensor, state: State, group: Group) -> Tensor:
    """SGD: h = momentum * h + lr * g; update h: a change of lr leaves the momentum as it is."""
    history = _history(state, "history", gradient)
    return history.mul_(group["momentum"]).add_(gradient, alpha=group["lr"])


def _nesterov(gradient: Tensor, state: State, group: Group) -> Tensor:
    """Nesterov: h' = momentum * h + lr * g; update (1 + momentum) * h' - momentum * h."""
    previous = _history(state, "history", gradient).clone()
    history = _sgd(gradient, state, group)
    momentum = float(group["momentum"])
    return history * (1 + momentum) - previous * momentum


def _adagrad(gradient: Tensor, state: State, group: Group) -> Tensor:
    """AdaGrad: h = h + g^2; update lr * g / (sqrt(h) + delta)."""
    history = _history(state, "history", gradient).addcmul_(gradient, gradient)
    return gradient.mul(group["lr"]).div_(history.sqrt().add_(group["delta"]))


def _rmsprop(gradient: Tensor, state: State, group: Group) -> Tensor:
    """RMSProp: h = rms_decay * h + (1 - rms_decay) * g^2; update lr * g / (sqrt(h) + delta)."""
    history = _decayed_square(gradient, state, "history", group["rms_decay"])
    return gradient.mul(group["lr"]).div_(history.sqrt().add_(group["delta"]))


def _adadelta(gradient: Tensor, state: State, group: Group) -> Tensor:
    """AdaDelta: update lr * u, u = g * sqrt((d + delta) / (h + delta)).

    h and d are the decayed squares of g and of u.
    """
    history = _decayed_square(gradient, state, "history", group["momentum"])
    updates = _history(state, "updates", gradient)
    update: Tensor = gradient * ((updates + group["delta"]) / (history + group["delta"])).sqrt()
    _decayed_square(update, state, "updates", group["momentum"])
    return update.mul(group["lr"])


def _adam(gradient: Tensor, state: State, group: Group) -> Tensor:
    """Adam: lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + delta).

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


RULES: dict[str, Callable[[Tensor, State, Group], Tensor]] = {
    "SGD": _sgd,
    "Nesterov": _nesterov,
    "AdaGrad": _adagrad,
    "RMSProp": _rmsprop,
    "AdaDelta": _adadelta,
    "Adam": _adam,
}
