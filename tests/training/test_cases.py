"""Training cases that genuine Caffe ran: losses, weights, tests, history and resumed runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import training_cases

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.training.distributed import ALONE
from caffe2torch.training.engine import Engine, Pass
from caffe2torch.training.fed import FedNet
from caffe2torch.training.log import Log
from caffe2torch.training.precision import PLAIN, Arithmetic
from caffe2torch.training.run import open_engine
from caffe2torch.training.solver import read_solver

LOSS = 1e-5
"""Of the first loss: float32 sums in another order, through 20 iterations."""
WEIGHTS = 1e-4
"""Of each blob's peak after 20 iterations, which hand roundings on."""
SCORES = 1e-5
"""Of the largest value of a test output, or 1."""
RATE = 1e-6
"""Caffe computes some policies in float32."""
BF16 = 5e-2
"""Of the first loss, the mean of 20 iterations on products of 8 bits."""
ITERATIONS = 20


@pytest.mark.parametrize("channels_last", [False, True])
def test_cases(channels_last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = []
    arithmetic = Arithmetic(channels_last=channels_last)
    for folder in folders("ok", tmp_path):
        monkeypatch.chdir(folder)
        with np.load("expected.npz") as file:
            expected = {key: file[key] for key in file.files}
        wrong += [f"{folder.name}: {line}" for line in differences(expected, "", arithmetic)]
        if case(folder)["resume"]:
            resumed = {k.removeprefix("resume/"): v for k, v in expected.items() if "resume/" in k}
            state = "snap_iter_10.solverstate"
            lines = differences(resumed, state, arithmetic)
            wrong += [f"{folder.name} resumed: {line}" for line in lines]
    assert not wrong, "\n".join(wrong)


def test_what_caffe_refuses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in folders("refused", tmp_path):
        monkeypatch.chdir(folder)
        with pytest.raises(Caffe2TorchError, match=r"^solver\.prototxt: "):
            read_solver("solver.prototxt")


def test_bf16_learns_as_float32_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = []
    for folder in folders("ok", tmp_path):
        monkeypatch.chdir(folder)
        losses = []
        for arithmetic in (PLAIN, Arithmetic("bf16")):
            with engine_of(arithmetic=arithmetic) as (engine, net):
                passes = noted(net)
                engine.step(ITERATIONS)
                losses.append(np.array([float(one.loss) for one in passes]))
                held = weights_of(net)
        if not all(np.isfinite(array).all() for array in held.values()):
            wrong.append(f"{folder.name}: a weight is not finite")
        # Single losses of a fast descent differ more, up and down.
        away = np.abs(np.subtract(*losses).mean()) / losses[0][0]
        if not 0 < away <= BF16:
            wrong.append(f"{folder.name}: the mean loss is {away:.1e} of the first one away")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("form", ["BINARYPROTO", "HDF5"])
def test_a_resumed_run_is_one_never_interrupted(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU bit for bit, statistics of BatchNorm and Adam's two histories included."""
    (folder,) = (path for path in training_cases(tmp_path) if path.name == "resbn_adam_fixed")
    monkeypatch.chdir(folder)
    with open("solver.prototxt", "a") as file:
        file.write(f"snapshot_format: {form} weight_decay: 0.01\n")
    with engine_of(writes=True) as (engine, net):
        engine.step(ITERATIONS)
        whole, history = weights_of(net), engine.rule.history()
    suffix = ".h5" if form == "HDF5" else ""
    state = f"snap_iter_10.solverstate{suffix}"
    with engine_of(state, resume_data=True) as (engine, net):
        assert engine.iteration == 10
        engine.step(ITERATIONS - 10)
        again, history_again = weights_of(net), engine.rule.history()
    for key, array in whole.items():
        np.testing.assert_array_equal(again[key], array, err_msg=key)
    for index, array in enumerate(history):
        np.testing.assert_array_equal(history_again[index], array, err_msg=str(index))


def folders(expect: str, tmp_path: Path) -> list[Path]:
    """Copies of the cases that Caffe trains (``ok``) or refuses (``refused``)."""
    found = [folder for folder in training_cases(tmp_path) if case(folder)["expect"] == expect]
    assert found
    return found


def case(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "case.json").read_text())
    return result


@contextmanager
def engine_of(
    snapshot: str | None = None, *, writes: bool = False, **options: Any
) -> Iterator[tuple[Engine, FedNet]]:
    solver = read_solver("solver.prototxt")
    weights = () if snapshot else ("init.caffemodel",)
    log = Log(lambda text: None)
    solver = replace(solver, weights=weights, snapshot=solver.snapshot if writes else 0)
    with open_engine(solver, ALONE, log=log, snapshot=snapshot, **options) as engine:
        assert isinstance(engine.net, FedNet)
        yield engine, engine.net


def weights_of(net: FedNet) -> dict[str, Any]:
    """The learned blobs as a snapshot has them, by ``LAYER/INDEX``."""
    return {
        f"{layer.proto.name}/{index}": np.array(array)
        for layer in net.layers()[0]
        for index, array in enumerate(layer.arrays())
    }


def differences(expected: dict[str, Any], snapshot: str, arithmetic: Arithmetic) -> list[str]:
    """Run the case in the current folder; what is not as Caffe had it, one line each."""
    wrong: list[str] = []

    def compare(what: str, actual: Any, key: str, tolerance: float, peak: float) -> None:
        away = np.abs(np.asarray(actual, np.float64).ravel() - expected[key].ravel()).max()
        if not away <= tolerance * peak:
            wrong.append(f"{what} is {away / peak:.1e} away, {tolerance:g} is allowed")

    with engine_of(snapshot or None, arithmetic=arithmetic) as (engine, net):
        passes = noted(net)
        rates = []
        while engine.iteration < ITERATIONS:
            before = engine.iteration
            engine.step(1)
            rates.append(engine.rate)
            tested = [key for key in expected if key.startswith(f"test/{before}/")]
            for key in tested:
                blob = key.split("/", 2)[2]
                if blob != "_loss":
                    score = [v for n, v in engine.scores[0].items() if n.split("[")[0] == blob]
                    compare(key, score, key, SCORES, max(1.0, np.abs(expected[key]).max()))
            now = [key for key in expected if key.startswith(f"w{engine.iteration}/")]
            held = weights_of(net) if now else {}
            for key in now:
                array = held[key.split("/", 1)[1]]
                compare(key, array, key, WEIGHTS, max(np.abs(expected[key]).max(), 1e-30))
            if engine.iteration == 10 and "history/0" in expected:
                history = engine.rule.history()
                assert engine.current_step == expected["history_current_step"]
                assert f"history/{len(history)}" not in expected
                for index, array in enumerate(history):
                    key = f"history/{index}"
                    compare(key, array, key, WEIGHTS, max(np.abs(expected[key]).max(), 1e-30))
        losses = np.array([float(one.loss) for one in passes])
        means = losses.reshape(-1, engine.solver.iter_size).mean(1)
        compare("loss", means, "loss", LOSS, abs(expected["loss"][0]))
        if "lr" in expected:
            compare("lr", rates, "lr", RATE, np.abs(expected["lr"]).max())
        for key in expected:
            if key.startswith("outputs/"):
                shown = [
                    o.values.numpy() for one in passes for o in one.outputs if o.name == key[8:]
                ]
                compare(key, np.array(shown), key, LOSS, np.abs(expected[key]).max())
    return wrong


def noted(net: FedNet) -> list[Pass]:
    """The passes that the net will make."""
    passes: list[Pass] = []
    run = net.forward_backward

    def forward_backward() -> Pass:
        passes.append(run())
        return passes[-1]

    net.forward_backward = forward_backward  # type: ignore[method-assign]
    return passes
