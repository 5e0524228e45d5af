"""The commands as a user runs them, on small generated data and on the published weights."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from support import genuine, genuine_squeezenet

import caffe2torch
from caffe2torch.engines.opencv import has_caffe_reader
from squeezenet.checkpoint import save_checkpoint
from squeezenet.cli import main
from squeezenet.config import TrainConfig
from squeezenet.model import SqueezeNet

NAMES = ("ant", "bee", "wasp, long-named insect of the order Hymenoptera", "gnat", "fly", "moth")


def run(*words, stdin=None, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words], input=stdin)
    assert result.exit_code == code, result.output
    assert not isinstance(result.exception, Exception) or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Images, a list of them, and a checkpoint of a net of six classes for 64-pixel crops."""
    root = tmp_path_factory.mktemp("home")
    (root / "images").mkdir()
    rng = np.random.default_rng(3)
    lines = []
    for index in range(5):
        name = f"an image {index}.png"
        cv2.imwrite(str(root / "images" / name), rng.integers(0, 256, (50, 71, 3), np.uint8))
        lines.append(f"{name} {index}")
    (root / "list.txt").write_text("\n".join(lines))
    (root / "lost.txt").write_text("a.png 0\nb.png 1\n")
    (root / "leveldb").mkdir()
    for name in ("CURRENT", "MANIFEST-000002", "000005.ldb"):
        (root / "leveldb" / name).touch()
    (root / "names.txt").write_text("\n".join(NAMES))
    torch.manual_seed(1)
    model = SqueezeNet(num_classes=6)
    torch.nn.init.normal_(model.conv10.weight, std=0.3)
    state = {
        "architecture": model.architecture,
        "class_names": list(NAMES),
        "preprocessing": {
            "protocol": "caffe",
            "resize": 70,
            "crop": 64,
            "mean": (104.0, 117.0, 123.0),
            "scale": 1.0,
        },
        "config": asdict(TrainConfig()),
        "model": model.state_dict(),
        "ema": None,
    }
    save_checkpoint(root / "model.pt", state)
    return root


def test_eval_reports_everything_as_json(home):
    words = ["eval", "--data", home / "images", "--val-list", home / "list.txt", "--json"]
    words += ["--weights", home / "model.pt", "--workers", 0]
    out = json.loads(run(*words).stdout)
    assert out["images"] == 5
    assert out["bad_images"] == 0
    assert out["top1"] == sum(row["top1"] for row in out["per_class"])
    assert [row["label_name"] for row in out["per_class"]] == list(NAMES[:5])
    assert out["top1"] + sum(row["images"] for row in out["confusions"]) == 5
    other = json.loads(run(*words, "--engine", "onnxruntime").stdout)
    assert other["loss"] == pytest.approx(out["loss"], rel=1e-5)
    assert {**other, "loss": 0} == {**out, "loss": 0}


def test_infer_text_json_and_csv_agree(home):
    words = ["infer", "--weights", home / "model.pt", home / "images", "--top-k", 3]
    answers = json.loads(run(*words, "--json").stdout)
    assert [Path(a["image"]).name for a in answers] == [f"an image {i}.png" for i in range(5)]
    for answer in answers:
        values = [guess["probability"] for guess in answer["guesses"]]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3
        assert all(guess["name"] == NAMES[guess["label"]] for guess in answer["guesses"])
    rows = list(csv.DictReader(io.StringIO(run(*words, "--csv").stdout)))
    assert len(rows) == 15
    for row, guess in zip(rows, (g for a in answers for g in a["guesses"]), strict=True):
        assert (row["name"], int(row["label"])) == (guess["name"], guess["label"])
        assert float(row["probability"]) == pytest.approx(guess["probability"], abs=1e-6)
    text = run(*words).stdout.splitlines()
    assert text[0] == str(home / "images" / "an image 0.png")
    assert text[1].split(maxsplit=1)[1] == answers[0]["guesses"][0]["name"]


def test_infer_on_opencv_guesses_what_torch_does(home, tmp_path):
    words = ["infer", "--json", home / "images", "--top-k", 1, "--weights"]
    refused = run(*words, home / "model.pt", "--engine", "opencv", code=2)
    if not has_caffe_reader():
        assert "the installed OpenCV has no Caffe reader" in refused.stderr
        return
    assert "OpenCV needs a .caffemodel" in refused.stderr
    run("export", "--weights", home / "model.pt", tmp_path / "model.caffemodel")
    words += [tmp_path / "model.caffemodel"]
    torchs, opencvs = (json.loads(run(*words, "--engine", e).stdout) for e in ("torch", "opencv"))
    assert len(torchs) == len(opencvs) == 5
    for first, second in zip(torchs, opencvs, strict=True):
        (guess,), (other,) = first["guesses"], second["guesses"]
        assert guess["label"] == other["label"]
        # Each engine has convolutions of its own, in float32.
        assert guess["probability"] == pytest.approx(other["probability"], rel=1e-4)


def test_infer_takes_files_globs_and_a_list_on_stdin(home):
    weights = ["infer", "--json", "--weights", home / "model.pt"]
    single = home / "images" / "an image 3.png"
    by_path = json.loads(run(*weights, single).stdout)
    by_glob = json.loads(run(*weights, home / "images" / "*[3].png").stdout)
    by_stdin = json.loads(run(*weights, "-", stdin=f"{single}\n\n").stdout)
    assert by_path == by_glob == by_stdin
    assert len(by_path) == 1


def test_sheet_shows_every_image(home, tmp_path):
    sheet = tmp_path / "sheet.png"
    run("infer", "--weights", home / "model.pt", home / "images", "--sheet", sheet)
    drawn = cv2.imread(str(sheet))
    assert drawn.shape == (8 + 248, 8 + 5 * 208, 3)
    for index in range(5):
        left = 8 + index * 208
        image = cv2.imread(str(home / "images" / f"an image {index}.png"))[:, 10:60]
        expected = cv2.resize(image, (200, 200), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(drawn[8:208, left : left + 200], expected)
        assert (drawn[208:248, left : left + 200] < 100).any()


def test_infer_names_bad_images_and_goes_on(home, tmp_path):
    bad = tmp_path / "text.png"
    bad.write_text("no image")
    good = home / "images" / "an image 0.png"
    result = run("infer", "--json", "--weights", home / "model.pt", bad, good)
    assert [a["image"] for a in json.loads(result.stdout)] == [str(good)]
    assert f"{bad} is not an image that OpenCV can decode" in result.stderr
    assert "1 of 2 images could not be used" in result.stderr
    words = ["infer", "--weights", home / "model.pt", bad]
    assert "no image could be classified" in run(*words, code=2).stderr
    assert "--on-bad-image skip" in run(*words, "--on-bad-image", "fail", code=2).stderr


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["eval", "--weights", "absent.pt", "--data", "{home}/images"], "absent.pt"),
        (["eval", "--weights", "{home}/list.txt", "--data", "{home}/images"], "list.txt"),
        (["eval", "--weights", "{home}/model.pt", "--data", "{home}/nowhere"], "there is no"),
        (["infer", "--weights", "{home}/model.pt"], "no image to classify"),
        (["infer", "--weights", "{home}/model.pt", "{home}/*.xyz"], "matches no file"),
        (
            ["infer", "--weights", "{home}/model.pt", "--synset-words", "{home}/list.txt",
             "{home}/images"],
            "there are 5 class names, but the net has 6 classes",
        ),
        (["export", "--weights", "{home}/model.pt", "{home}/model.tflite"], "suffix '.tflite'"),
        (["train", "--data", "{home}/nowhere"], "there is no"),
        (["train", "--data", ".", "--crop", "300"], "--crop 300 is larger than --resize 256"),
        (["train", "--data", "{home}/images", "--train-list", "../list.txt", "--val-list",
          "../list.txt", "--version", "1.1", "--crop", "16", "--resize", "16"],
         "--crop 16 is too small for SqueezeNet 1.1: its last pooling needs a crop of 17 or more"),
        (["train", "--data", "{home}/images", "--train-list", "../list.txt", "--val-list",
          "../list.txt", "--version", "1.0", "--crop", "20", "--resize", "20"],
         "needs a crop of 21 or more"),
        (["train", "--data", "{home}", "--train-list", "lost.txt", "--val-list", "lost.txt"],
         "none of the 2 images that {home}/lost.txt names exists, such as {home}/a.png"),
        (["eval", "--weights", "{home}/model.pt", "--data", "{home}", "--val-list", "lost.txt"],
         "its paths begin at --data, now {home}"),
        (["eval", "--weights", "{home}/model.pt", "--data", "{home}/leveldb"],
         "leveldb is a LevelDB, which is not read: make an LMDB"),
        (["train", "--solver", "{home}/absent.prototxt"], "cannot read the solver"),
        (["train", "--init-from", "{home}/list.txt"], "is not a checkpoint"),
        (["train", "--data", "{home}/images", "--train-list", "{home}/names.txt"],
         "names.txt:1: expected a path"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_exit_code_2(home, words, cause):
    result = run(*(word.replace("{home}", str(home)) for word in words), code=2)
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ")
    assert cause.replace("{home}", str(home)) in line


@pytest.mark.parametrize("command", ["train", "eval"])
def test_a_set_without_one_usable_image_is_an_error(home, tmp_path, command):
    for folder in ("train/a", "val/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "1.png").write_bytes(b"no image")
    words = ["eval", "--weights", home / "model.pt", "--data", tmp_path]
    if command == "train":
        words = ["train", "--data", tmp_path, "--out", tmp_path / "o", "--max-iter", 1]
    *_, line = run(*words, "--workers", 0, code=2).stderr.strip().splitlines()
    assert line.startswith("Error: none of the ")
    assert "could be used" in line


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(home, tmp_path):
    run("export", "--weights", home / "model.pt", tmp_path / "net.caffemodel")
    half = caffe2torch.convert(tmp_path / "net.caffemodel", tmp_path / "half.pt", half=True)
    (line,) = run("info", "--weights", half).stderr.splitlines()
    assert line.startswith(f"Warning: {half} holds weights that were rounded")


def test_bad_options_are_usage_errors(home):
    for option, value in (
        ("--lr-mult", "conv10"),
        ("--lr-mult", "conv10.*=-1"),
        ("--mean", "1,2"),
        ("--stepvalue", "a,b"),
        ("--crop", "1" + 30 * "0"),
        ("--resize", "32768"),
        ("--lr-scale", "cubic:256"),
        ("--lr-scale", "linear:0"),
    ):
        assert option in run("train", option, value, code=2).stderr


def test_train_writes_a_model_that_the_other_commands_take(home, tmp_path):
    out = tmp_path / "run"
    words = ["train", "--data", home / "images", "--train-list", home / "list.txt"]
    words += ["--val-list", home / "list.txt", "--out", out, "--max-iter", 2, "--batch-size", 2]
    words += ["--resize", 70, "--crop", 64, "--workers", 0, "--device", "cpu"]
    words += ["--lr-mult", "conv10.*=5", "--mean", "100,110,120", "--schedule", "multistep"]
    result = run(*words, "--stepvalue", "1,2")
    assert "step 2/2  validation: top-1" in result.stderr
    resumed = run("train", "--init-from", out / "last.pt", "--max-iter", 3)
    assert "going on after step 2 of 3" in resumed.stderr
    # The checkpoint's settings hold, but for those given: 0.08 for 8 images is 0.04 for 2.
    scaled = ["--lr", 0.08, "--lr-scale", "sqrt:8", "--schedule", "fixed", "--decode", "reduced"]
    resumed = run("train", "--resume", "--out", out, *scaled, "--max-iter", 4)
    assert "step 4/4  epoch 1.60" in resumed.stderr
    assert "lr 0.04" in resumed.stderr
    words = ["eval", "--weights", out / "best.pt", "--data", home / "images"]
    text = run(*words, "--val-list", home / "list.txt", "--workers", 0).stdout
    assert text.startswith("images    5\ntop-1")


@pytest.mark.parametrize(
    ("version", "parameters", "bypass"),
    [("1.0", "1,248,424", None), ("1.1", "1,235,496", None), ("1.1", "1,235,496", "simple")],
)
def test_info_counts_the_published_parameters(version, parameters, bypass):
    more = ["--bypass", bypass] if bypass else []
    lines = run("info", "--version", version, *more).stdout.splitlines()
    total = next(line for line in lines if line.startswith("total"))
    assert total.split()[1] == parameters
    assert ("simple bypass" in lines[0]) == bool(bypass)


def test_info_describes_a_file(home):
    assert "6 classes, input 3x64x64" in run("info", "--weights", home / "model.pt").stdout


def test_eval_in_a_lower_precision(home):
    """bf16 has 8 bits: the loss moves a little, and no more than that."""
    options = ("--json", "--data", home / "images", "--val-list", home / "list.txt")
    found = {
        precision: json.loads(
            run("eval", *options, "--weights", home / "model.pt", "--precision", precision).stdout
        )
        for precision in ("fp32", "bf16")
    }
    loss = found["fp32"]["loss"]
    assert found["bf16"]["images"] == 5
    assert 0 < abs(found["bf16"]["loss"] - loss) < 0.02 * loss
    run("export", "--weights", home / "model.pt", home / "precise.onnx")
    said = run(
        "eval", *options, "--weights", home / "precise.onnx", "--engine", "onnxruntime",
        "--precision", "bf16", code=2,
    ).output  # fmt: skip
    assert "--precision bf16 is for --engine torch, not onnxruntime" in said


def test_processes_share_an_evaluation_with_exact_counts(home):
    """Two processes, five images, one of them bad, and batches that do not come out even."""
    lines = (home / "list.txt").read_text().split("\n")
    (home / "shared.txt").write_text("\n".join([*lines[:3], "gone.png 2", *lines[3:], lines[1]]))
    words = [
        "eval", "--json", "--data", home / "images", "--val-list", home / "shared.txt",
        "--weights", home / "model.pt", "--batch-size", 2, "--workers", 0, "--device", "cpu",
    ]  # fmt: skip
    alone = json.loads(run(*words).stdout)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "squeezenet", *map(str, words)],
            env={**os.environ, **job, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (first, said), (second, also) = (process.communicate(timeout=200) for process in processes)
    assert [process.returncode for process in processes] == [0, 0], said + also
    assert second == ""
    together = json.loads(first)
    assert together.pop("loss") == pytest.approx(alone.pop("loss"), rel=1e-6)  # Another order.
    assert together == alone
    assert (together["images"], together["bad_images"]) == (6, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "top1", "top5", "engine"),
    [("1.0", 138, 181, "torch"), ("1.1", 141, 179, "onnxruntime")],
)
def test_published_weights_classify_the_sample_as_caffe_does(version, top1, top5, engine):
    sample = genuine("DATA", "imagenet_sample")
    out = run(
        "eval", "--json", "--engine", engine, "--data", sample / "images",
        "--val-list", sample / "val_list.txt",
        "--weights", genuine_squeezenet(version),
    )  # fmt: skip
    found = json.loads(out.stdout)
    assert (found["images"], found["top1"], found["top5"]) == (200, top1, top5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "--lr", "nan"), "nan is not a finite number"),
        (("train", "--scale", "inf"), "'inf' is not a finite number"),
        (("train", "--mean", "nan,1,2"), "must have three finite numbers"),
        (("train", "--seed", 2**63), "is not in the range"),
        (("pack", ""), "is not the name of a file"),
        (("pack", "x.tar", "--shard-size", "9" * 400), "is not a size such as"),
        (("pack", "x.tar", "--shard-size", "9" * 400 + "GB"), "is not a size such as"),
    ],
)
def test_absurd_values_are_refused(words, message):
    assert message in run(*words, code=2).output


@pytest.mark.parametrize("name", ["x-%06d.tar", "x-*.tar"])
def test_a_pattern_of_tar_files_is_told_of(name):
    output = run("train", "--train-list", name, "--num-classes", 2, code=2).output
    assert f"cannot read {name}" in output
    assert "train-{000000..000123}.tar" in output


def test_an_image_that_cannot_be_read_is_named_once(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text("bad.png 0\nlost.png 1\n")
    words = ("--data", tmp_path, "--list", tmp_path / "list.txt", "--workers", 0, tmp_path / "db")
    output = run("pack", *words, code=2).output
    for name in ("bad.png", "lost.png"):
        assert output.count(f"{name} (") == 1, output
