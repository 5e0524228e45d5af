"""Training on tiny images: resuming after kills, several processes, and what is refused."""

import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from functools import partial

import cv2
import numpy as np
import pytest
import torch

from caffe2torch.errors import ArtefactError, NetError, ReadError
from caffe2torch.training.loop import Action, DivergedError
from caffe2torch.training.precision import prefers_channels_last
from squeezenet.checkpoint import is_checkpoint, load_checkpoint, save_checkpoint
from squeezenet.config import TrainConfig
from squeezenet.model import SqueezeNet
from squeezenet.train import train
from squeezenet.weights import load_model

CLASSES = ("blue", "green", "red")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes of images, each with more of one colour."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for split, count in (("train", 7), ("val", 3)):
        for channel, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                image = rng.integers(0, 120, (66, 90, 3), np.uint8)
                image[:, :, channel] += 130
                cv2.imwrite(str(folder / f"{index}.png"), image)
    return root


def config(data, out, **more):
    settings = {
        "data": str(data),
        "out": str(out),
        "resize": 70,
        "crop": 64,
        "batch_size": 4,
        "max_iter": 6,
        "lr": 0.0005,
        "workers": 0,
        "threads": 1,
        "device": "cpu",
        "log_every": 1,
        "eval_every": 100,
    }
    return TrainConfig(**{**settings, **more})


def arguments(settings):
    """The command line of the settings that differ from the defaults."""
    words = []
    for name, value in asdict(settings).items():
        if value != getattr(TrainConfig(), name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


def command(*words):
    return [sys.executable, "-m", "squeezenet", "train", *words]


def quiet(message):
    pass


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_bit_for_bit_the_same(data, tmp_path):
    settings = {
        "max_iter": 24,
        "snapshot": 2,
        "eval_every": 9,
        "ema": 0.9,
        "workers": 1,
        "jitter": 0.2,
        "iter_size": 2,
    }
    whole = config(data, tmp_path / "whole", **settings)
    train(whole, report=quiet)

    out = tmp_path / "killed"
    killed = config(data, out, **settings)
    choose = random.Random(4)
    kills, seen = 0, 0
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        resume = ["--init-from", str(out / "last.pt")] if (out / "last.pt").exists() else []
        process = subprocess.Popen(
            command(*arguments(killed), *resume),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        stop_after = choose.randint(2, 5)
        lines = 0
        for line in process.stderr:
            lines += line.startswith("step ")
            if lines >= stop_after and kills < 4:
                time.sleep(choose.random() * 0.1)
                process.send_signal(signal.SIGKILL)
                break
        process.stderr.read()
        process.stderr.close()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
        kills += 1
        if (out / "last.pt").exists():
            step = load_checkpoint(out / "last.pt")["step"]
            assert step >= seen
            seen = step
    assert kills == 4

    a, b = (load_checkpoint(tmp_path / name / "last.pt") for name in ("whole", "killed"))
    assert a["step"] == b["step"] == 24
    for part in ("model", "ema", "optimiser", "random", "best"):
        assert equal(a[part], b[part]), part
    names = {path.name for path in out.iterdir()}
    assert names == {"last.pt", "best.pt", "log.jsonl"}


def test_ctrl_c_saves_and_stops_and_the_run_goes_on_bit_for_bit(data, tmp_path):
    settings = {"max_iter": 9, "workers": 1, "jitter": 0.2, "ema": 0.9}
    train(config(data, tmp_path / "whole", **settings), report=quiet)
    out = tmp_path / "out"
    stopped = config(data, out, **settings)
    process = subprocess.Popen(
        command(*arguments(stopped)), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("step 2/"):
            os.killpg(process.pid, signal.SIGINT)  # As a terminal does: the worker gets it, too.
    process.stderr.close()
    assert process.wait() == 0, lines
    assert f"go on with --init-from {out / 'last.pt'}" in lines[-1]
    assert 2 <= load_checkpoint(out / "last.pt")["step"] < 9
    train(stopped, init_from=out / "last.pt", report=quiet)
    a, b = (load_checkpoint(folder / "last.pt") for folder in (tmp_path / "whole", out))
    for part in ("model", "ema", "optimiser", "random", "best"):
        assert equal(a[part], b[part]), part


def test_a_snapshot_may_be_asked_for(data, tmp_path):
    asked = iter([Action.NONE, Action.SNAPSHOT, Action.STOP])
    said, seen = [], []
    settings = config(data, tmp_path, max_iter=5)
    result = train(
        settings,
        report=said.append,
        requested=lambda: next(asked),
        progress=lambda step, end: seen.append((step, end)),
    )
    assert result is None
    assert seen == [(1, 5), (2, 5), (3, 5)]
    assert said[-1].startswith("stopped after step 3 of 5")


def test_a_line_of_the_log_has_the_mean_of_the_last_losses(data, tmp_path):
    def losses(name, **more):
        settings = config(data, tmp_path / name, max_iter=5, dropout=0.0, **more)
        train(settings, report=quiet)
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        return {r["step"]: r["loss"] for r in map(json.loads, lines) if "loss" in r}

    each = losses("each")
    assert losses("two", log_every=2) == pytest.approx(
        {step: (each[step - 1] + each[step]) / 2 for step in (2, 4, 5)}, rel=1e-5
    )
    assert losses("three", average_loss=3)[4] == pytest.approx(
        (each[2] + each[3] + each[4]) / 3, rel=1e-5
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_two_processes_equal_one_at_the_same_global_batch(data, tmp_path):
    # Without dropout, whose masks are each process's own.
    settings = {"dropout": 0.0, "jitter": 0.2, "iter_size": 2, "batch_size": 6, "clip": 40.0}
    train(config(data, tmp_path / "one", **settings), report=quiet)
    two = config(data, tmp_path / "two", **settings)
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            command(*arguments(two)),
            env={**os.environ, **job, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=200)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert "step" not in errors[1]
    a, b = (load_checkpoint(tmp_path / name / "last.pt") for name in ("one", "two"))
    for name, tensor in a["model"].items():
        # Sums of float32 in another order: a few units in the last place after six steps.
        torch.testing.assert_close(b["model"][name], tensor, rtol=1e-4, atol=2e-6)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert logs[0][-1]["val_accuracy"] == logs[1][-1]["val_accuracy"]
    for one, other in zip(*logs, strict=True):
        if "loss" in one:
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_fine_tuning_learns_and_its_checkpoint_is_a_model(data, tmp_path):
    source = config(data, tmp_path / "source", max_iter=1, num_classes=5)
    train(source, report=quiet)
    said = []
    settings = config(
        data,
        tmp_path / "out",
        pretrained=str(tmp_path / "source" / "last.pt"),
        max_iter=25,
        solver_type="Adam",
        lr=0.0003,
        dropout=0.0,
        label_smoothing=0.05,
        freeze=("conv1.*",),
        lr_mult=(("conv10.*", 5.0),),
        schedule="poly",
        warmup=2,
    )
    metrics = train(settings, report=said.append)
    assert "the classifier is new" in said[0]
    assert metrics.images == 9
    losses = [
        json.loads(line)["loss"]
        for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()
        if '"loss"' in line
    ]
    assert len(losses) == 25
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assert is_checkpoint(tmp_path / "out" / "best.pt")
    loaded = load_model(tmp_path / "out" / "best.pt")
    assert loaded.class_names == CLASSES
    assert (loaded.transform.preprocessing.resize, loaded.transform.crop) == (70, 64)
    before = load_checkpoint(tmp_path / "source" / "last.pt")["model"]
    after = load_checkpoint(tmp_path / "out" / "last.pt")["model"]
    assert torch.equal(before["conv1.weight"], after["conv1.weight"])
    assert not torch.equal(before["fire2.squeeze1x1.weight"], after["fire2.squeeze1x1.weight"])


def test_gradient_accumulation_equals_the_larger_batch(data, tmp_path):
    for name, sizes in (("large", (8, 1)), ("parts", (2, 4))):
        train(
            config(
                data,
                tmp_path / name,
                dropout=0.0,
                batch_size=sizes[0],
                iter_size=sizes[1],
                max_iter=3,
            ),
            report=quiet,
        )
    a, b = (load_checkpoint(tmp_path / name / "last.pt") for name in ("large", "parts"))
    for name, tensor in a["model"].items():
        torch.testing.assert_close(b["model"][name], tensor, rtol=1e-4, atol=2e-6)


def test_bf16_channels_last_and_tensorboard_run(data, tmp_path):
    pytest.importorskip("tensorboard")
    settings = config(
        data, tmp_path, precision="bf16", channels_last=True, tensorboard=True, max_iter=2
    )
    train(settings, report=quiet)
    assert any(path.name.startswith("events.out") for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("version", "device", "precision", "last"),
    [
        ("1.1", "cpu", "fp32", True),
        ("1.0", "cpu", "bf16", False),  # The padding of conv10 is wider than its kernel.
        ("1.1", "cuda", "fp32", False),
        ("1.0", "cuda", "bf16", True),
    ],
)
def test_the_order_of_memory_is_chosen(version, device, precision, last):
    model = SqueezeNet(version, num_classes=2)
    assert prefers_channels_last(model, torch.device(device), precision) is last


@pytest.mark.parametrize("asked", [None, False])
def test_training_takes_the_order_of_memory_that_is_asked_for(data, tmp_path, asked):
    train(config(data, tmp_path, channels_last=asked, max_iter=1), report=quiet)
    weight = load_checkpoint(tmp_path / "last.pt")["model"]["fire2.expand3x3.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last) is (asked is None)


def test_skipped_images_are_counted_at_the_end(data, tmp_path):
    listing = tmp_path / "list.txt"
    paths = sorted((data / "train").rglob("*.png"))[:6]
    lines = [f"{path} {index % 3}" for index, path in enumerate(paths)]
    listing.write_text("\n".join([*lines, "absent one.png 2"]))
    said = []
    settings = config(data, tmp_path / "out", train_list=str(listing), max_iter=4)
    train(settings, report=said.append)
    assert sum("list.txt:7): No such file" in line for line in said) == 1
    assert said[-1] == "1 bad images were skipped; each is named above"


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_a_diverged_run_stops_and_keeps_the_last_good_checkpoint(data, tmp_path):
    settings = config(data, tmp_path, lr=1e30, max_iter=5)
    with pytest.raises(DivergedError, match=r"the loss is nan at step \d.*lower --lr"):
        train(settings, report=quiet)
    assert not (tmp_path / "last.pt").exists()


def test_a_loss_that_is_no_number_from_the_start_is_traced(data, tmp_path):
    with pytest.raises(DivergedError, match=r"before any update: the images are not finite"):
        train(config(data, tmp_path, mean=(math.nan,) * 3), report=quiet)
    train(config(data, tmp_path, max_iter=1), report=quiet)
    state = load_checkpoint(tmp_path / "last.pt")
    state["model"]["conv1.bias"][0] = math.inf
    save_checkpoint(tmp_path / "bad.pt", state)
    settings = config(data, tmp_path / "out", pretrained=str(tmp_path / "bad.pt"))
    with pytest.raises(DivergedError, match=r"weights of .*bad\.pt are not finite"):
        train(settings, report=quiet)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_net_is_refused(data, tmp_path):
    train(config(data, tmp_path, max_iter=1), report=quiet)
    other = config(data, tmp_path / "other", version="1.0")
    with pytest.raises(NetError, match=r"the checkpoint holds .*'1.1'.* set up for .*'1.0'"):
        train(other, init_from=tmp_path / "last.pt", report=quiet)
    (tmp_path / "junk.pt").write_bytes((tmp_path / "last.pt").read_bytes()[:5000])
    with pytest.raises(ReadError, match="is not a checkpoint"):
        load_checkpoint(tmp_path / "junk.pt")


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtefactError, match=r"file/run: no file can be written into this folder"):
        train(config(data, tmp_path / "file" / "run"), report=pytest.fail)
    (tmp_path / "run" / "last.pt").mkdir(parents=True)
    with pytest.raises(ArtefactError, match=r"run/last\.pt: cannot be written: Is a directory"):
        train(config(data, tmp_path / "run"), report=pytest.fail)


def test_a_compiled_run_goes_on_and_its_weights_have_the_models_names(data, tmp_path, monkeypatch):
    """The graph is that of --compile; it is run as it is, as making code of it takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    # Masks of dropout are others in compiled code.
    settings = {"dropout": 0.0, "ema": 0.9, "iter_size": 2, "max_iter": 3, "schedule": "fixed"}
    train(config(data, tmp_path / "eager", **settings), report=quiet)
    settings["compile"] = True
    train(config(data, tmp_path / "whole", **settings), report=quiet)
    part = config(data, tmp_path / "part", **settings)
    train(replace(part, max_iter=2), report=quiet)
    train(part, init_from=tmp_path / "part" / "last.pt", report=quiet)
    eager, whole, resumed = (
        load_checkpoint(tmp_path / name / "last.pt") for name in ("eager", "whole", "part")
    )
    for part in ("model", "ema"):
        # Sums of float32 in another order: a few units in the last place.
        torch.testing.assert_close(dict(whole[part]), dict(eager[part]), rtol=1e-4, atol=2e-6)
        assert equal(dict(resumed[part]), dict(whole[part]))
