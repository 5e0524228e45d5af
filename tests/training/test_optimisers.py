"""Ten steps of every solver against Caffe's formulas, worked out in float64 with numpy."""

import numpy as np
import pytest
import torch

from caffe2torch.errors import NetError
from caffe2torch.training.optimisers import CaffeOptimiser, parameter_groups
from caffe2torch.training.rules import SOLVER_TYPES, register_solver_type
from squeezenet.cli import train
from squeezenet.solver import read_solver

MOMENTUM, MOMENTUM2, DELTA, RMS_DECAY = 0.9, 0.99, 1e-4, 0.95
RATES = [0.1, 0.1, 0.1, 0.02, 0.02, 0.5, 0.5, 0.02, 0.01, 0.01]
"""They change, which tells where in the update the rate stands."""


def sgd(w, gradients):
    h = np.zeros_like(w)
    for lr, g in gradients:
        h = MOMENTUM * h + lr * g(w)
        w = w - h
    return w


def nesterov(w, gradients):
    h = np.zeros_like(w)
    for lr, g in gradients:
        before = h
        h = MOMENTUM * h + lr * g(w)
        w = w - ((1 + MOMENTUM) * h - MOMENTUM * before)
    return w


def adagrad(w, gradients):
    h = np.zeros_like(w)
    for lr, g in gradients:
        d = g(w)
        h = h + d**2
        w = w - lr * d / (np.sqrt(h) + DELTA)
    return w


def rmsprop(w, gradients):
    h = np.zeros_like(w)
    for lr, g in gradients:
        d = g(w)
        h = RMS_DECAY * h + (1 - RMS_DECAY) * d**2
        w = w - lr * d / (np.sqrt(h) + DELTA)
    return w


def adadelta(w, gradients):
    h, u = np.zeros_like(w), np.zeros_like(w)
    for lr, g in gradients:
        d = g(w)
        h = MOMENTUM * h + (1 - MOMENTUM) * d**2
        update = d * np.sqrt((u + DELTA) / (h + DELTA))
        u = MOMENTUM * u + (1 - MOMENTUM) * update**2
        w = w - lr * update
    return w


def adam(w, gradients):
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, (lr, g) in enumerate(gradients, 1):
        d = g(w)
        m = MOMENTUM * m + (1 - MOMENTUM) * d
        v = MOMENTUM2 * v + (1 - MOMENTUM2) * d**2
        correction = np.sqrt(1 - MOMENTUM2**t) / (1 - MOMENTUM**t)
        w = w - lr * correction * m / (np.sqrt(v) + DELTA)
    return w


@pytest.mark.parametrize("betas", [(1.0, 0.999), (0.9, 1.5), (1.5, 0.5)])
def test_adams_correction_is_that_of_c(betas):
    """1 - 1^t is 0, the root of 1 - 1.5^t is NaN, and 1.5^t is infinite from 1751 on."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = CaffeOptimiser([parameter], "Adam", momentum=betas[0], momentum2=betas[1])
    for _ in range(2000):
        parameter.grad = torch.ones(1)
        optimiser.step()
    assert parameter.isnan()


@pytest.mark.parametrize("regularization", ["L2", "L1"])
@pytest.mark.parametrize(
    ("type_", "formula"),
    [
        ("SGD", sgd),
        ("Nesterov", nesterov),
        ("AdaGrad", adagrad),
        ("RMSProp", rmsprop),
        ("AdaDelta", adadelta),
        ("Adam", adam),
    ],
)
def test_ten_steps_follow_caffe(type_, formula, regularization):
    rng = np.random.default_rng(7)
    start = rng.standard_normal((2, 3, 5))
    given = rng.standard_normal((10, 2, 3, 5))
    decay = 0.03

    parameter = torch.nn.Parameter(torch.tensor(start))
    optimiser = CaffeOptimiser(
        [parameter],
        type_,
        momentum=0.0 if type_ in ("AdaGrad", "RMSProp") else MOMENTUM,
        momentum2=MOMENTUM2,
        delta=DELTA,
        rms_decay=RMS_DECAY,
        weight_decay=decay,
        regularization=regularization,
    )
    for lr, gradient in zip(RATES, given, strict=True):
        optimiser.param_groups[0]["lr"] = lr
        parameter.grad = torch.tensor(gradient)
        optimiser.step()

    def regularised(gradient):
        penalty = (lambda w: w) if regularization == "L2" else np.sign
        return lambda w: gradient + decay * penalty(w)

    expected = formula(start, [(lr, regularised(g)) for lr, g in zip(RATES, given, strict=True)])
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-12, atol=1e-14)


def test_gradients_are_clipped_together_divided_and_then_decayed():
    """Caffe's order: the norm of the sums over iter_size, the mean, the decay."""
    rng = np.random.default_rng(11)
    starts, sums = ([rng.standard_normal(shape) for shape in ((2, 3), (5,))] for _ in range(2))
    parameters = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    optimiser = CaffeOptimiser(
        parameters, "SGD", lr=0.1, weight_decay=0.3, clip_gradients=0.5, iter_size=4
    )
    for parameter, gradient in zip(parameters, sums, strict=True):
        parameter.grad = torch.tensor(gradient)
    optimiser.step()
    norm = np.sqrt(sum((gradient**2).sum() for gradient in sums))
    assert norm > 0.5
    for parameter, start, gradient in zip(parameters, starts, sums, strict=True):
        update = 0.1 * (gradient * 0.5 / norm / 4 + 0.3 * start)
        np.testing.assert_allclose(parameter.detach().numpy(), start - update, rtol=1e-12)
        np.testing.assert_allclose(parameter.grad.numpy(), update, rtol=1e-12)


def test_a_parameter_without_a_gradient_decays_and_keeps_its_momentum():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimiser = CaffeOptimiser([weight], "SGD", lr=0.1, momentum=0.9, weight_decay=0.5)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    optimiser.step()
    first = 1 - 0.05
    assert weight[0].item() == pytest.approx(first - (0.9 * 0.05 + 0.05 * first), rel=1e-12)


def test_torch_sgd_would_differ_when_the_rate_changes():
    ours, theirs = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    caffe = CaffeOptimiser([ours], "SGD", lr=0.1, momentum=0.9)
    torchs = torch.optim.SGD([theirs], lr=0.1, momentum=0.9)
    for lr in (0.1, 0.001):
        for parameter, optimiser in ((ours, caffe), (theirs, torchs)):
            optimiser.param_groups[0]["lr"] = lr
            parameter.grad = torch.ones(3)
            optimiser.step()
    assert ours[0].item() == pytest.approx(1 - 0.1 - (0.9 * 0.1 + 0.001))
    assert abs(ours[0].item() - theirs[0].item()) > 0.05


@pytest.mark.parametrize("type_", ["AdaGrad", "RMSProp"])
def test_solvers_without_momentum_refuse_it(type_):
    with pytest.raises(NetError, match=f"the {type_} solver has no momentum: it is 0.9"):
        CaffeOptimiser([torch.nn.Parameter(torch.ones(2))], type_, momentum=0.9)


def test_unknown_type_is_an_error():
    with pytest.raises(NetError, match="no solver type 'LBFGS'"):
        CaffeOptimiser([torch.nn.Parameter(torch.ones(2))], "LBFGS")


def test_a_solver_type_from_outside_is_a_choice_and_steps(monkeypatch, tmp_path):
    monkeypatch.setitem(SOLVER_TYPES, "Sign", None)  # It is gone again after the test.

    @register_solver_type("Sign")
    def sign(gradient, state, group):
        return group["lr"] * gradient.sign()

    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
    optimiser = CaffeOptimiser([weight], "Sign", lr=0.5)
    weight.grad = torch.tensor([7.0, -0.1, 0.0])
    optimiser.step()
    assert weight.tolist() == [0.5, -1.5, 3.0]
    with pytest.raises(NetError, match="the Sign solver has no momentum"):
        CaffeOptimiser([weight], "Sign", momentum=0.9)
    with pytest.raises(NetError, match=r"choose SGD, .*, Adam, Sign"):
        CaffeOptimiser([weight], "Lion")
    path = tmp_path / "solver.prototxt"
    path.write_text('base_lr: 0.1 lr_policy: "fixed" max_iter: 9 type: "Sign"')
    assert read_solver(path)[0]["solver_type"] == "Sign"
    (option,) = (o for o in train.params if o.name == "solver_type")
    assert option.type.convert("Sign", option, None) == "Sign"


def test_a_rate_of_zero_freezes() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    groups = parameter_groups(model, 0.1, (("0.*", 0.0),), ())
    assert [len(group["params"]) for group in groups] == [2]
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    with pytest.raises(NetError, match="nothing to train"):
        parameter_groups(model, 0.1, (("*", 0.0),), ())
