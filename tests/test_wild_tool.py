"""tools/wild.py: two small nets through every stage, its record, and its tables."""

from __future__ import annotations

import zipfile
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import wild
from google.protobuf import text_format
from support import genuine
from wilding.feed import fewer_rows, guesses, sensible_inputs
from wilding.judge import (
    CRASH,
    DIFFERENT,
    OUTCOMES,
    REFUSED,
    RIGHT,
    SIDE,
    TIMEOUT,
    Finding,
    Net,
    judge,
)
from wilding.reasons import signed
from wilding.weights import with_random_weights
from wilding.words import missing, plain

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import message_class
from caffe2torch.pipeline import build_graph

GOOD = """
layer { name: "d" type: "Data" top: "x" top: "label" }
layer { name: "c" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 5 kernel_size: 3 } }
layer { name: "b" type: "BatchNorm" bottom: "c" top: "b" }
layer { name: "r" type: "ReLU" bottom: "b" top: "b" }
layer { name: "p" type: "Pooling" bottom: "b" top: "p" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "f" type: "InnerProduct" bottom: "p" top: "f" inner_product_param { num_output: 7 } }
layer { name: "l" type: "SoftmaxWithLoss" bottom: "f" bottom: "label" top: "l" }
"""
SIZED = GOOD.replace(
    'top: "label" }',
    'top: "label" transform_param { crop_size: 9 mean_value: [1, 2, 3] } }',
)
RELU = 'layer { name: "r" type: "ReLU" bottom: "x" top: "r" }'
BAD = """
layer { name: "d" type: "CoinData" top: "x" }
layer { name: "r" type: "ReLU" bottom: "x" top: "r" relu_param { bend: 3 } }
layer { name: "p" type: "Python" bottom: "r" top: "p" python_param { module: "m" layer: "L" } }
layer { name: "o" type: "CoinOutput" bottom: "p" top: "o" }
layer { name: "t" type: "TrainOnly" bottom: "p" top: "t" include { phase: TRAIN } }
"""
LACKS = ["source CoinData", "field ReLU relu_param.bend: N", "type Python m.L", "last CoinOutput"]
NETS = {"cifar/a_train.prototxt": GOOD, "b.prototxt": BAD}


def archive(folder: Path) -> Path:
    path = folder / "nets.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in NETS.items():
            file.writestr(name, text)
    return path


def test_shapes_are_guessed_by_the_names_of_net_and_blob() -> None:
    message = parse_prototxt(GOOD)
    assert next(guesses("models/lenet_train", "x", message)) == (1, 1, 28, 28)
    assert next(guesses("models/googlenet_train", "x", message)) == (1, 3, 224, 224)
    assert next(guesses("lenet", "x", parse_prototxt(SIZED))) == (1, 3, 9, 9)
    assert next(guesses("lenet", "im_info", message)) == (1, 3)
    assert next(guesses("lenet", "rois", message))[1] == 5


def test_regions_marks_and_image_sizes_are_fed_as_their_layers_expect() -> None:
    text = """
    input: "data" input_shape { dim: 1 dim: 2 dim: 30 dim: 50 }
    input: "boxes" input_shape { dim: 3 dim: 5 dim: 1 dim: 1 }
    input: "im_info" input_shape { dim: 1 dim: 3 }
    input: "cont" input_shape { dim: 4 dim: 2 }
    layer { name: "r" type: "ROIPooling" bottom: "data" bottom: "boxes" top: "r"
      roi_pooling_param { pooled_h: 2 pooled_w: 2 } }
    layer { name: "f" type: "Flatten" bottom: "im_info" top: "f" }
    layer { name: "g" type: "Flatten" bottom: "cont" top: "g" }
    """
    fed = sensible_inputs(build_graph(parse_prototxt(text)))
    boxes = fed["boxes"].reshape(3, 5)
    assert (boxes[:, 0] == 0).all()
    assert (boxes[:, 1:3] < boxes[:, 3:]).all()
    assert boxes[:, 3].max() <= 50
    assert boxes[:, 4].max() <= 30
    np.testing.assert_array_equal(fed["im_info"], [[30, 50, 1]])
    np.testing.assert_array_equal(fed["cont"][:, 0], [0, 1, 1, 1])


def judged(folder: Path, text: str, name: str = "cifar", side: int = SIDE) -> Finding:
    path = folder / "net.prototxt"
    path.write_text(text)
    return judge(Net(name, "train_val", path), folder, lambda stage: None, side=side)


def test_a_net_is_run_by_all_engines(tmp_path: Path) -> None:
    finding = judged(tmp_path, GOOD)
    assert (finding.outcome, finding.stage, finding.weights) == (RIGHT, "opencv", "random")
    assert finding.shapes == "x=1,3,32,32"
    assert finding.opencv == RIGHT


def test_images_are_as_small_as_the_net_takes_them(tmp_path: Path) -> None:
    assert judged(tmp_path, GOOD, "net", side=64).shapes == "x=1,3,64,64"
    fixed = """input: "x" input_shape { dim: 5 dim: 3 dim: 80 dim: 200 }
    layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 50 } }"""
    finding = judged(tmp_path, fixed, side=64)
    assert (finding.outcome, finding.shapes) == (RIGHT, "x=1,3,52,128")


def test_a_blob_of_another_phase_is_fed(tmp_path: Path) -> None:
    text = GOOD.replace('type: "Data"', 'type: "Data" include { phase: TRAIN }')
    finding = judged(tmp_path, text)
    assert (finding.outcome, finding.shapes) == (RIGHT, "x=1,3,32,32")


def test_dummy_data_makes_few_items(tmp_path: Path) -> None:
    text = """layer { name: "d" type: "DummyData" top: "x" dummy_data_param {
      data_filler { type: "constant" value: 3 } shape: { dim: 64 dim: 3 dim: 8 dim: 8 } } }
    layer { name: "p" type: "Pooling" bottom: "x" top: "p" pooling_param { kernel_size: 3 } }"""
    assert fewer_rows(text).count("dim: 2 dim: 3") == 1
    assert fewer_rows(GOOD) == GOOD
    assert judged(tmp_path, text).outcome == RIGHT


def test_the_stage_that_an_error_advises_is_given(tmp_path: Path) -> None:
    text = GOOD.replace('type: "Data"', 'type: "Data" include { stage: "fit" }')
    finding = judged(tmp_path, text)
    assert (finding.outcome, finding.shapes) == (RIGHT, "stage=fit x=1,3,32,32")


def test_a_caffemodel_is_its_own_net(tmp_path: Path) -> None:
    path = tmp_path / "cifar.caffemodel"
    net = text_format.Parse(GOOD.splitlines()[1] + RELU, message_class("NetParameter")())
    path.write_bytes(net.SerializeToString())
    finding = judge(Net("cifar", "caffemodel", path), tmp_path, lambda stage: None, False)
    assert (finding.outcome, finding.weights) == (RIGHT, "genuine")
    assert finding.shapes == "x=1,3,32,32"


def test_a_refusal_says_all_that_the_net_lacks(tmp_path: Path) -> None:
    finding = judged(tmp_path, BAD)
    assert (finding.outcome, finding.stage) == (REFUSED, "read")
    assert finding.reason == "unknown layer type Python m.L"
    assert finding.lacks.split("; ") == LACKS
    assert "layer 'p' (Python)" in finding.detail


def test_equal_reasons_are_equal_texts(tmp_path: Path) -> None:
    texts = [
        f'input: "{blob}" input_dim: [1, 3, 8, 8] '
        f'layer {{ name: "{name}" type: "LRN" bottom: "{blob}" top: "{blob}" }}'
        for name, blob in (("one", "x1"), ("two", "x2"))
    ]
    first, second = (judged(tmp_path, text) for text in texts)
    assert first.detail != second.detail
    assert first.reason == second.reason
    assert first.reason.startswith("LRN, top: computes the blob '...' in place")


def test_errors_of_opencv_lose_its_own_places() -> None:
    text = (
        """OpenCV(4.14.0) /a/net.cpp:7: error: (-2:Unspecified error) no layer "d" of type "X"."""
    )
    assert plain(text, {"d"}) == "no layer '...' of type \"X\"."


def test_what_is_no_error_of_the_package_is_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("wilding.judge.with_random_weights", broken)
    finding = judged(tmp_path, GOOD)
    assert (finding.outcome, finding.reason) == (CRASH, "KeyError in test_wild_tool.py, broken")


def test_a_difference_is_told_from_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caffe2torch.engines.onnxruntime import OnnxRuntimeEngine

    run, factor = OnnxRuntimeEngine.run, 1.0

    def wrong(self, inputs):
        blobs = run(self, inputs)
        return {**blobs, "p": blobs["p"] * factor}

    monkeypatch.setattr(OnnxRuntimeEngine, "run", wrong)
    assert judged(tmp_path, GOOD).outcome == RIGHT
    factor = 1.01
    finding = judged(tmp_path, GOOD)
    assert finding.outcome == DIFFERENT
    assert finding.reason == "onnxruntime, first at Pooling"


def test_random_weights_are_scaled_and_the_same_each_time() -> None:
    graph = build_graph(parse_prototxt(SIZED))
    first, second = (with_random_weights(graph).params for _ in range(2))
    assert all(np.array_equal(first[key], second[key]) for key in first)
    assert first["c.weight"].std() == pytest.approx(np.sqrt(2 / 27), rel=0.2)
    assert (first["b.running_var"] >= 1).all()
    assert missing(parse_prototxt(BAD)) == LACKS


def test_a_run_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["wild.py", "--nets", str(archive(tmp_path)), "--out", str(tmp_path), "--jobs", "1"]
    monkeypatch.setattr("sys.argv", [*arguments, "--only", "cifar/*"])
    assert wild.main() == 0
    assert "cifar/a_train.prototxt" in capsys.readouterr().out.splitlines()[0]
    monkeypatch.setattr("sys.argv", arguments)
    assert wild.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:1]] == [["2/2", "refused"]]
    assert lines[1] == "2 nets"
    assert "| right | 1 | 50.0% |" in lines
    assert "| unknown layer type Python m.L (read) | 1 | b.prototxt |" in lines
    assert "| source CoinData | 1 | 0 | b.prototxt |" in lines
    found = wild.read_findings(tmp_path / "nets.tsv")
    assert found["cifar/a_train.prototxt"].kind == "train_val"
    assert found["b.prototxt"].lacks.split("; ") == LACKS


def test_a_net_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    nets = wild.unpack(archive(tmp_path), tmp_path)
    (finding,) = wild.run_all(nets[:1], tmp_path, 1, wild.Work(wild.Limits(0, 1 << 33)))
    assert finding.outcome == TIMEOUT


def test_the_table_counts_what_alone_is_lacking() -> None:
    findings = [
        Finding("a", "deploy", REFUSED, "read", "unknown layer type A", "type A"),
        Finding("b", "deploy", REFUSED, "read", "unknown layer type A", "type A; type B"),
    ]
    lines = wild.table(findings).splitlines()
    assert "| type A | 2 | 1 | a, b |" in lines
    assert "| type B | 1 | 0 | b |" in lines
    assert "| type A; type B | 1 | b |" in lines
    assert all(any(line.startswith(f"| {outcome} |") for line in lines) for outcome in OUTCOMES)


@pytest.mark.parametrize(
    ("outcome", "text", "reason"),
    [
        (REFUSED, "net.prototxt:3:7: $W$: this is a template; write the value", "a template"),
        (REFUSED, "describes no layers", "no net"),
        (REFUSED, "unknown layer type Lstm", None),
        (DIFFERENT, "this is a template; write the value", None),
        (CRASH, "describes no layers", None),
    ],
)
def test_a_reason_is_signed_for_a_kind_of_net(outcome: str, text: str, reason: str | None) -> None:
    found = signed(Finding("a", "deploy", outcome, "read", text))
    assert found is None if reason is None else str(found).startswith(reason)


def run_slice(nets: list[Net], folder: Path) -> list[Finding]:
    work = wild.Work(wild.Limits(300, 8 << 30), side=64)
    return list(wild.run_all(nets, folder, 1, work))


def wrong(findings: list[Finding]) -> list[str]:
    return [
        f"{f.net}: {f.outcome}, {f.reason}" for f in findings if f.outcome in (CRASH, DIFFERENT)
    ]


def test_small_nets_of_the_world(tmp_path: Path) -> None:
    nets = wild.unpack(genuine("SHARED", "wild", "nets.zip"), tmp_path)
    chosen = [n for n in nets if fnmatch(n.name, "BVLC+caffe/examples/*/*lenet*")]
    findings = run_slice(chosen, tmp_path)
    assert not wrong(findings)
    assert sum(f.outcome == RIGHT for f in findings) >= 2


@pytest.mark.slow
def test_every_fortieth_net_of_the_world(tmp_path: Path) -> None:
    nets = wild.unpack(genuine("SHARED", "wild", "nets.zip"), tmp_path)
    findings = run_slice(nets[::40], tmp_path)
    assert not wrong(findings)
    others = [f"{f.net}: {f.outcome}, {f.reason}" for f in findings if f.outcome != RIGHT]
    assert len(others) <= 0.2 * len(findings), "\n".join(others)
