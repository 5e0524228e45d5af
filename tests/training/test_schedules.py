import math

import click
import pytest

from caffe2torch.errors import NetError
from caffe2torch.training.rules import POLICIES, Schedule, register_policy
from squeezenet.cli import train


@pytest.mark.parametrize(
    ("settings", "step", "rate"),
    [
        ({"policy": "fixed"}, 7, 0.5),
        ({"policy": "step", "gamma": 0.3, "stepsize": 5}, 4, 0.5),
        ({"policy": "step", "gamma": 0.3, "stepsize": 5}, 17, 0.5 * 0.3**3),
        ({"policy": "multistep", "gamma": 0.3, "stepvalue": (3, 11)}, 2, 0.5),
        ({"policy": "multistep", "gamma": 0.3, "stepvalue": (3, 11)}, 3, 0.5 * 0.3),
        ({"policy": "multistep", "gamma": 0.3, "stepvalue": (3, 11)}, 40, 0.5 * 0.3**2),
        ({"policy": "exp", "gamma": 0.9}, 7, 0.5 * 0.9**7),
        ({"policy": "inv", "gamma": 0.2, "power": 0.75}, 7, 0.5 * (1 + 0.2 * 7) ** -0.75),
        ({"policy": "poly", "power": 2, "max_iter": 35}, 7, 0.5 * (1 - 7 / 35) ** 2),
        ({"policy": "poly", "power": 2, "max_iter": 35}, 35, 0.0),
        ({"policy": "poly", "power": 2, "max_iter": 35}, 42, 0.5 * 0.2**2),
        ({"policy": "poly", "power": 3, "max_iter": 35}, 42, -0.5 * 0.2**3),
        ({"policy": "poly", "power": 0.5, "max_iter": 35}, 42, math.nan),
        ({"policy": "sigmoid", "gamma": -0.3, "stepsize": 5}, 7, 0.5 / (1 + math.exp(0.3 * 2))),
        ({"policy": "step", "gamma": 10, "stepsize": 1}, 400, math.inf),
        ({"policy": "multistep", "gamma": 1e200, "stepvalue": (1, 2)}, 3, math.inf),
        ({"policy": "exp", "gamma": 1.5}, 2000, math.inf),
        ({"policy": "inv", "gamma": 1.0, "power": -200}, 99, math.inf),
        ({"policy": "inv", "gamma": -0.1, "power": 1}, 10, math.inf),
        ({"policy": "inv", "gamma": -0.2, "power": 0.5}, 10, math.nan),
        ({"policy": "cosine", "max_iter": 35}, 7, 0.25 * (1 + math.cos(math.pi * 7 / 35))),
        ({"policy": "cosine", "max_iter": 35}, 35, 0.0),
    ],
)
def test_rate_is_caffes_formula(settings, step, rate):
    expected = pytest.approx(rate, rel=1e-12, abs=1e-15, nan_ok=True)
    assert Schedule(base_lr=0.5, **settings).rate(step) == expected


def test_warmup_rises_linearly_to_the_policy():
    schedule = Schedule("cosine", base_lr=2.0, max_iter=30, warmup=4)
    assert [schedule.rate(step) for step in range(5)] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert schedule.rate(17) == pytest.approx(1.0)


def test_sigmoid_far_from_its_middle_does_not_overflow():
    assert Schedule("sigmoid", gamma=5.0, stepsize=1000).rate(0) == 0.0


def test_unknown_policy_is_named_with_those_there_are():
    with pytest.raises(NetError, match=f"'plateau': choose {', '.join(POLICIES)}"):
        Schedule("plateau")


def test_step_needs_a_stepsize():
    with pytest.raises(NetError, match="'step' needs a positive stepsize"):
        Schedule("step", stepsize=0)


def test_a_policy_from_outside_is_a_choice_and_trains(monkeypatch):
    monkeypatch.setitem(POLICIES, "halving", None)  # It is gone again after the test.

    @register_policy("halving", "stepsize")
    def halving(schedule, step, drops):
        return 0.5 ** (step // schedule.stepsize)

    assert Schedule("halving", base_lr=4.0, stepsize=3).rate(7) == 1.0
    with pytest.raises(NetError, match="'halving' needs a positive stepsize"):
        Schedule("halving", stepsize=0)
    with pytest.raises(NetError, match=r"choose cosine, .*, halving"):
        Schedule("plateau")
    (option,) = (o for o in train.params if o.name == "schedule")
    assert option.type.convert("halving", option, None) == "halving"
    assert "|halving]" in option.make_metavar(click.Context(train))


def test_multistep_drops_once_an_iteration_and_goes_on_from_a_snapshot():
    """Caffe's current_step_: two equal steps take two iterations, a changed file undoes no drop."""
    schedule = Schedule("multistep", base_lr=1.0, gamma=0.5, stepvalue=(3, 3, 4))
    drops, taken = 0, []
    for step in range(7):
        drops = schedule.advance(step, drops)
        taken.append(drops)
        assert schedule.current_step(step) == drops
        assert schedule.rate(step, drops) == schedule.rate(step) == 0.5**drops
    assert taken == [0, 0, 0, 1, 2, 3, 3]
    assert Schedule("multistep", stepvalue=(100, 200)).advance(7, 1) == 1
    assert Schedule("multistep", stepvalue=(5, 200)).advance(7, 0) == 1
    assert Schedule("step", stepsize=3).advance(7, 0) == 2
