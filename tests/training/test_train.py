"""Whole runs by the command line: logs, snapshots, signals, several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_net import (
    BATCH,
    CLASSES,
    ITEMS,
    MOMENTUM,
    NET,
    OF_PEAK,
    SOLVER,
    assert_same,
    blobs,
    run,
    train,
    write_net,
)

from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.training.snapshot import read_state

BF16 = 0.02
"""Of a loss after 12 iterations on products of 8 bits."""


def test_the_log_is_read_by_the_expressions_of_caffes_parsers(folder: Path) -> None:
    result = train("--log-json", "log.jsonl")
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert all(
        re.match(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.cpp:\d+\] ", line) for line in lines
    )
    text = result.stderr
    assert "Solving small" in text
    number = r"([\d.eE+-]+)"
    speed = rf"\({number} iter/s, {number}s/5 iters\)"
    weighted = rf"\(\* 1 = {number} loss\)"
    passes = re.findall(rf"Iteration (\d+) {speed}, loss = {number}", text)
    assert [int(found[0]) for found in passes] == [0, 5, 10]
    assert re.findall(rf"Iteration (\d+), lr = {number}", text) == [
        (str(iteration), "0.1") for iteration in (0, 5, 10)
    ]
    assert len(re.findall(rf"Train net output #0: loss = {number} {weighted}", text)) == 3
    tests = re.findall(r"Iteration (\d+), Testing net \(#0\)", text)
    assert tests == ["0", "6", "12"]
    scores = re.findall(rf"Test net output #(\d+): (\S+) = {number}", text)
    assert [name for _, name, _ in scores] == ["accuracy", "loss"] * 3
    records = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [(r["iteration"], r["kind"]) for r in records] == [
        (0, "test 0"), (0, "train"), (5, "train"), (6, "test 0"), (10, "train"), (12, "test 0")
    ]  # fmt: skip
    assert records[-1]["outputs"]["accuracy"] == pytest.approx(float(scores[-2][2]), rel=1e-5)


def test_the_test_of_a_snapshot_gives_the_scores_of_the_last_test(folder: Path) -> None:
    # One pass reads all items, so that it does not matter where the data stand.
    Path("solver.prototxt").write_text(SOLVER.replace("test_iter: 2", "test_iter: 1") + MOMENTUM)
    write_net(ITEMS)
    last = train().stderr.rsplit("Testing net", 1)[1]
    model = ("--model", "net.prototxt", "--weights", "out_iter_12.caffemodel")
    result = run("test", *model, "--iterations", "2")
    assert result.exit_code == 0, result.output
    for name in ("accuracy", "loss"):
        (score,) = re.findall(rf"output #\d: {name} = (\S+)", last)
        found = re.findall(rf"\] {name} = (\S+)", result.stderr)
        assert float(found[-1]) == pytest.approx(float(score), rel=1e-5)
    converted = run("convert", "out_iter_12.caffemodel", "out.pt", "--input-shape", "x=1,2,3")
    assert converted.exit_code == 0, converted.output


def test_time_gives_the_time_of_each_layer(folder: Path) -> None:
    result = run("time", "--model", "net.prototxt", "--iterations", "2")
    assert result.exit_code == 0, result.output
    for name in ("frozen", "tanh", "drop", "ip", "loss"):
        assert re.search(rf"{name}\tforward: [\d.e-]+ ms\.", result.stderr)
        assert re.search(rf"{name}\tbackward: [\d.e-]+ ms\.", result.stderr)
    assert "Average Forward-Backward: " in result.stderr


@pytest.mark.parametrize("rule", [MOMENTUM, 'type: "Adam" momentum: 0.9 weight_decay: 0.01'])
def test_a_killed_run_goes_on_as_if_nothing_had_been(folder: Path, rule: str) -> None:
    """Dropout and the place in the data included, bit for bit."""
    Path("solver.prototxt").write_text(SOLVER + rule)
    assert train().exit_code == 0
    os.rename("out_iter_12.caffemodel", "whole.caffemodel")
    os.rename("out_iter_12.solverstate", "whole.solverstate")
    result = train("--snapshot", "out_iter_6.solverstate", "--resume-data")
    assert result.exit_code == 0, result.output
    assert_same(("whole.caffemodel", "out_iter_12.caffemodel"))
    one, other = read_state("whole.solverstate"), read_state("out_iter_12.solverstate")
    assert one.iteration == other.iteration == 12
    for first, second in zip(one.history, other.history, strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_same_command_begins_and_goes_on(folder: Path) -> None:
    """As torchrun gives it again after a process was killed, here between updates 6 and 12."""
    Path("solver.prototxt").write_text(SOLVER + MOMENTUM)
    Path("other_iter_99.solverstate").touch()
    Path("out_iter_99.solverstate.part").touch()
    result = train("--resume")
    assert result.exit_code == 0, result.output
    os.rename("out_iter_12.caffemodel", "whole.caffemodel")
    os.rename("out_iter_12.solverstate", "whole.solverstate")
    for _ in range(2):  # In the end there is nothing left to do.
        result = train("--resume", "--weights", "absent.caffemodel")
        assert result.exit_code == 0, result.output
        assert_same(("whole.caffemodel", "out_iter_12.caffemodel"))


def test_frozen_blobs_have_a_history_of_their_decay(folder: Path) -> None:
    """Adam's mean of decay * w after two updates: (1 - b) * (b + 1) * decay * w."""
    rule = (
        SOLVER.replace("max_iter: 12", "max_iter: 2")
        + 'type: "Adam" momentum: 0.9 weight_decay: 0.5'
    )
    Path("solver.prototxt").write_text(rule)
    assert train().exit_code == 0
    weight = blobs("out_iter_2.caffemodel")["frozen/0"]
    history = read_state("out_iter_2.solverstate").history
    assert len(history) == 8
    np.testing.assert_allclose(history[0], 0.1 * 1.9 * 0.5 * weight, rtol=1e-5)


def test_workers_change_nothing(folder: Path) -> None:
    assert train().exit_code == 0
    os.rename("out_iter_12.caffemodel", "one.caffemodel")
    assert train("--workers", "2").exit_code == 0
    assert_same(("one.caffemodel", "out_iter_12.caffemodel"))


IMAGES = """data" type: "ImageData" top: "x" top: "label"
  image_data_param { source: "images.txt" batch_size: BATCH new_height: 9 new_width: 8
    shuffle: true rand_skip: 7 }
  transform_param { crop_size: 5 mirror: true scale: 0.01 mean_value: 104.5 mean_value: 117
    mean_value: 123 } }
layer { name: "frozen"""


def write_images() -> None:
    """The net with images in the place of its numbers."""
    rng = np.random.default_rng(6)
    with open("images.txt", "w") as file:
        for n in range(8):
            cv2.imwrite(f"{n}.png", rng.integers(0, 256, (10 + n, 13, 3), np.uint8))
            file.write(f"{n}.png {n % CLASSES}\n")
    before, after = NET.index('data" type'), NET.index('frozen" type') + len("frozen")
    write_net(text=NET[:before] + IMAGES + NET[after:])


def test_processes_that_read_images_change_nothing(folder: Path) -> None:
    """Nor does a stop, after which others read on from the middle of the list."""
    write_images()
    assert train("--workers", "0").exit_code == 0
    os.rename("out_iter_12.caffemodel", "one.caffemodel")
    for workers in ((), ("--workers", "1")):
        assert train(*workers).exit_code == 0
        assert_same(("one.caffemodel", "out_iter_12.caffemodel"))
    on = ("--snapshot", "out_iter_6.solverstate", "--resume-data")
    assert train(*on).exit_code == 0
    assert_same(("one.caffemodel", "out_iter_12.caffemodel"))


def test_a_label_of_an_image_that_is_no_class_is_refused(folder: Path) -> None:
    write_images()
    Path("images.txt").write_text("0.png 1\n1.png 5\n" * 4)
    result = train()
    assert result.exit_code != 0
    assert "5 is in 'label', where 0 to 4 may be" in result.output
    assert not multiprocessing.active_children()


def test_bf16_is_asked_for_and_goes_on_bit_for_bit(folder: Path) -> None:
    plain, low = train(), train("--precision", "bf16")
    assert plain.exit_code == low.exit_code == 0
    ends = [re.findall(r"loss = (\S+)", result.stderr)[-1] for result in (plain, low)]
    assert ends[0] != ends[1]
    assert float(ends[1]) == pytest.approx(float(ends[0]), rel=BF16)
    os.rename("out_iter_12.caffemodel", "whole.caffemodel")
    state = ("--snapshot", "out_iter_6.solverstate", "--resume-data")
    assert train("--precision", "bf16", *state).exit_code == 0
    assert_same(("whole.caffemodel", "out_iter_12.caffemodel"))


@pytest.mark.slow
def test_two_processes_equal_one_at_twice_the_batch(folder: Path) -> None:
    write_net(2 * BATCH, ratio=0)
    assert train().exit_code == 0
    os.rename("out_iter_12.caffemodel", "one.caffemodel")
    write_net(BATCH, ratio=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    both = [start(RANK=str(rank), LOCAL_RANK=str(rank), **job) for rank in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert errors[1] == ""
    one, two = blobs("one.caffemodel"), blobs("out_iter_12.caffemodel")
    for key, array in one.items():
        away = np.abs(two[key] - array).max()
        assert away <= OF_PEAK * max(np.abs(array).max(), 1e-3), key


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_ctrl_c_snapshots_and_stops_and_hangup_snapshots(folder: Path) -> None:
    Path("solver.prototxt").write_text(
        SOLVER.replace("max_iter: 12", "max_iter: 100000000").replace("snapshot: 6", "")
    )
    process = start()
    assert process.stderr is not None
    asked = 0
    lines = []
    with process:
        for line in process.stderr:
            lines.append(line)
            if "iter/s" in line and asked == 0:
                process.send_signal(signal.SIGHUP)
                asked = 1
            if "Snapshotting solver state" in line and asked == 1:
                process.send_signal(signal.SIGINT)
                asked = 2
    assert process.returncode == 0
    assert "Optimization stopped early." in lines[-1]
    written = sorted(folder.glob("out_iter_*.solverstate"), key=os.path.getmtime)
    assert len(written) == 2
    assert read_state(written[-1]).iteration > read_state(written[0]).iteration


def start(**environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "caffe2torch", "train", "--solver", "solver.prototxt"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)


def test_fields_without_effect_are_named_once(folder: Path) -> None:
    with open("solver.prototxt", "a") as file:
        file.write(" gamma: 0.1 debug_info: true layer_wise_reduce: false")
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = train()
    lines = [line for line in result.stderr.splitlines() if line.startswith("Warning: ")]
    for field in ("gamma", "debug_info", "layer_wise_reduce"):
        assert sum(f": {field} has no effect" in line for line in lines) == 1


def test_the_level_is_that_of_the_command(folder: Path) -> None:
    """Caffe's command sets it whatever the solver says: to 0 where it is not given."""
    quiet = 'layer { name: "quiet" type: "Silence" bottom: "f" include { min_level: 2 } }'
    write_net(text=NET + quiet)
    Path("solver.prototxt").write_text(SOLVER + MOMENTUM + " train_state { level: 3 }")
    for level, is_there in ((), False), (("--level", "2"), True), (("--level", "1"), False):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            result = train(*level)
        names = [layer.name for layer in read_caffemodel("out_iter_12.caffemodel").net.layer]
        assert ("quiet" in names) == is_there
        assert "train_state.level has no effect: as in caffe train" in result.stderr


def test_the_prefix_of_snapshots_is_the_solvers_name(folder: Path) -> None:
    Path("solver.prototxt").write_text(SOLVER.replace('snapshot_prefix: "out"', ""))
    assert train().exit_code == 0
    assert Path("solver_iter_12.caffemodel").is_file()
    Path("into").mkdir()
    Path("solver.prototxt").write_text(SOLVER.replace('"out"', '"into"'))
    assert train().exit_code == 0
    assert Path("into/solver_iter_12.solverstate").is_file()
