"""Training by processes that are killed and started again, as torchrun does, in other numbers."""

import json
import os
import signal
import socket
import subprocess
import sys
from itertools import chain

import cv2
import numpy as np
import pytest
import torch

from squeezenet.checkpoint import load_checkpoint
from squeezenet.config import TrainConfig

IMAGES = 21
BATCH = 4
STEPS = 12  # Two epochs and a part of the third.
KILLED_AT = 7  # Steps that are done then, of which the first six are in last.pt.
SAVED = 6

# Writes the images of each batch that the training takes; one process kills itself at a step.
PROGRAM = """
import os, signal, sys
from squeezenet import cli, train
folder, victim = sys.argv.pop(1), sys.argv.pop(1)
rank, run = os.environ.get("RANK", "0"), os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
original = train.checked

def checked(*arguments):
    with open(f"{folder}/{run}.{rank}", "w") as file:
        for step, batch in enumerate(original(*arguments)):
            if (run, rank, str(step)) == tuple(victim.split(",")):
                os.kill(os.getpid(), signal.SIGKILL)
            print(*batch.indices.tolist(), file=file, flush=True)
            yield batch

train.checked = checked
cli.main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", IMAGES // 3), ("val", 1)):
        for name in "abc":
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(f"{folder}/{index}.png", rng.integers(0, 256, (66, 70, 3), np.uint8))
    (root / "program.py").write_text(PROGRAM)
    return root


def run(data, out, record, *options, processes=1, victim="none", restarts=0):
    """The job's exit code and what it said."""
    record.mkdir(parents=True, exist_ok=True)
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    start += [f"--max-restarts={restarts}", "--monitor-interval=0.1"]
    words = [
        *(start if processes > 1 else []), data / "program.py", record, victim, "train",
        "--data", data, "--out", out, "--resume", "--resize", "70", "--crop", "64",
        "--batch-size", BATCH, "--max-iter", STEPS, "--lr", "0.0005", "--workers", "1",
        "--threads", "1", "--device", "cpu", "--no-channels-last", "--snapshot", "2",
        "--eval-every", "100", "--log-every", "1", "--jitter", "0.2", *options,
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return done.returncode, done.stderr


def taken(record, run, processes):
    """The images of each step of a run, those of all its processes in order."""
    parts = [
        [[int(word) for word in line.split()] for line in file.read_text().splitlines()]
        for file in (record / f"{run}.{rank}" for rank in range(processes))
    ]
    return [list(chain(*step)) for step in zip(*parts, strict=False)]


def check_history(steps):
    """Of the images that made the model, each epoch has every one once."""
    stream = list(chain(*steps))
    assert len(stream) == STEPS * BATCH
    for first in range(0, len(stream), IMAGES):
        epoch = stream[first : first + IMAGES]
        assert len(set(epoch)) == len(epoch)
        assert len(epoch) < IMAGES or sorted(epoch) == list(range(IMAGES))
    return stream


@pytest.mark.slow
def test_a_process_is_killed_and_torchrun_starts_again(data, tmp_path):
    """With as many processes the model has the same bits, dropout included."""
    code, said = run(data, tmp_path / "whole", tmp_path / "a", processes=2)
    assert code == 0, said
    code, said = run(
        data, tmp_path / "out", tmp_path / "b", processes=2, victim=f"0,1,{KILLED_AT}", restarts=1
    )
    assert code == 0, said
    assert f"going on after step {SAVED} of {STEPS}" in said
    first, second = (taken(tmp_path / "b", number, 2) for number in (0, 1))
    assert len(first) == KILLED_AT
    stream = check_history(first[:SAVED] + second)
    assert stream == check_history(taken(tmp_path / "a", 0, 2))
    a, b = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "out"))
    for part in ("model", "optimiser", "random", "images"):
        torch.testing.assert_close(b[part], a[part], rtol=0, atol=0)


@pytest.mark.slow
def test_a_job_goes_on_with_other_numbers_of_processes(data, tmp_path):
    """Three of them share four images; the sums of float32 are rounded in another order."""
    calm = ("--dropout", 0)
    code, said = run(data, tmp_path / "whole", tmp_path / "a", *calm)
    assert code == 0, said
    out, record = tmp_path / "out", tmp_path / "b"
    code, _ = run(data, out, record, *calm, processes=2, victim=f"0,0,{KILLED_AT}")
    assert code != 0
    first = taken(record, 0, 2)[:SAVED]
    code, _ = run(data, out, record, *calm, processes=3, victim="0,2,3")
    assert code != 0
    second = taken(record, 0, 3)[:2]
    assert load_checkpoint(out / "last.pt")["step"] == SAVED + 2
    code, said = run(data, out, record, *calm)
    assert code == 0, said
    stream = check_history(first + second + taken(record, 0, 1))
    assert stream == check_history(taken(tmp_path / "a", 0, 1))
    a, b = (load_checkpoint(folder / "last.pt") for folder in (tmp_path / "whole", out))
    # A few units in the last place after twelve steps.
    torch.testing.assert_close(b["model"], a["model"], rtol=1e-4, atol=2e-6)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == STEPS


LOST = """
import os, signal, sys, torch
from caffe2torch.training.distributed import join_team
with join_team("cpu") as team:
    for _ in range(2):
        team.sum(torch.ones(3))
        if team.leads:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_loses_another_says_so():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", LOST],
            env={**os.environ, **job, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    )
    said = [process.communicate(timeout=100)[1] for process in (first, second)]
    assert (said[0], first.returncode) == ("", -signal.SIGKILL)
    assert "Caffe2TorchError: process 1 of 2 has lost another one" in said[1]


@pytest.mark.slow
def test_a_job_killed_before_anything_is_saved_starts_anew(data, tmp_path):
    out, options = tmp_path / "out", ("--max-iter", 3)
    code, _ = run(data, out, tmp_path / "a", *options, victim="0,0,1")
    assert code == -signal.SIGKILL
    assert not (out / "last.pt").exists()
    code, said = run(data, out, tmp_path / "a", *options)
    assert code == 0, said
    assert "going on" not in said
    code, said = run(data, out, tmp_path / "a", *options)
    assert code == 0, said
    assert "going on after step 3 of 3" in said


def test_the_rate_follows_the_images_of_a_step():
    def rate(rule, **sizes):
        return TrainConfig(lr=0.1, lr_scale=rule, **sizes).base_lr(1000)

    assert rate(None, batch_size=512) == 0.1
    assert rate(("linear", 256), batch_size=512) == pytest.approx(0.2)
    assert rate(("linear", 256), batch_size=64, iter_size=2) == pytest.approx(0.05)
    assert rate(("sqrt", 256), batch_size=256, iter_size=4) == pytest.approx(0.2)


def test_a_rate_that_is_not_given_follows_the_training_images():
    config = TrainConfig(lr_scale=("linear", 32), batch_size=64)
    assert [config.base_lr(images) for images in (1, 499, 500, 10**6)] == pytest.approx(
        [0.0004, 0.0004, 0.002, 0.002]
    )
    assert TrainConfig(lr=0.0).base_lr(1000) == 0
