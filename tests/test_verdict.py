"""The verdict: rounding and known faults of engines pass by name, a wrong kernel fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from support import genuine

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.compare import BlobDifference, matched_detections
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.parity.float64 import Step, rows_left_open
from caffe2torch.parity.known_faults import KNOWN_FAULTS
from caffe2torch.parity.verdict import DIFFERS, KNOWN, ROUNDING, Judge
from caffe2torch.pipeline import build_graph

pytestmark = pytest.mark.filterwarnings("ignore:layer .* has no weights")

# "near" has the weights of "far" but for 1e-5 of them. What remains of their difference is a
# thousand times closer to rounding than the blobs are; everything after it amplifies that.
NET = """
name: "cancellation"
input: "x" input_shape { dim: 2 dim: 5 dim: 9 dim: 7 }
layer { name: "far" type: "Convolution" bottom: "x" top: "far"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }
layer { name: "near" type: "Convolution" bottom: "x" top: "near"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }
layer { name: "apart" type: "Eltwise" bottom: "far" bottom: "near" top: "apart"
  eltwise_param { coeff: 1 coeff: -1 } }
layer { name: "scaled" type: "Power" bottom: "apart" top: "scaled" power_param { scale: 1e5 } }
layer { name: "again" type: "Convolution" bottom: "scaled" top: "again"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "prob" type: "Softmax" bottom: "again" top: "prob" }
"""
APART = 1e-5


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(NET)
    graph = caffe2torch.read(None, prototxt, allow_missing=True)
    rng = np.random.default_rng(3)
    params: dict[str, Any] = {}
    for key, array in graph.params.items():
        noise = rng.standard_normal(array.shape)
        far = params.get(key.replace("near", "far"))
        params[key] = np.float32(0.3 * noise if far is None else far * (1 + APART * noise))
    write_caffemodel(replace(graph, params=params), tmp_path / "net.caffemodel")
    return tmp_path / "net.caffemodel", prototxt


def kinds(report: Any, engine: str = "onnxruntime") -> dict[str, str]:
    (pair,) = (c for c in report.comparisons if c.engine == engine)
    return {d.blob: pair.kind(d) for d in pair.blobs}


def test_amplified_rounding_passes_and_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    report = caffe2torch.check_parity(*files)
    assert report.passed
    assert kinds(report)["far"] == "agrees"
    assert kinds(report)["apart"] == kinds(report)["again"] == ROUNDING
    pair = next(c for c in report.to_dict()["comparisons"] if c["engine"] == "onnxruntime")
    blob = next(b for b in pair["blobs"] if b["blob"] == "again")
    assert blob["passed"]
    assert blob["max_abs"] > blob["limit"]
    for figures in blob["float64"].values():
        assert 0 < figures["error"] <= figures["rounding"] < blob["max_abs"]
    words = ["parity", str(files[0]), "--prototxt", str(files[1]), "--junit", str(tmp_path / "j")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "blobs differ by rounding, which the net amplifies" in result.output
    assert "rounding: max abs error" in (tmp_path / "j").read_text()


def test_a_tolerance_that_is_given_leaves_no_room_for_rounding(files: tuple[Path, Path]) -> None:
    report = caffe2torch.check_parity(*files, tolerance=1e-5, engines=("torch", "onnxruntime"))
    assert not report.passed


def off_by_a_thousandth(model: onnx.ModelProto, layer: str) -> None:
    weight = _weight(model, layer)
    array = numpy_helper.to_array(weight).copy()
    array.reshape(-1)[7] += 1e-3
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))


def transposed(model: onnx.ModelProto, layer: str) -> None:
    weight = _weight(model, layer)
    array = np.ascontiguousarray(numpy_helper.to_array(weight).swapaxes(2, 3))
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))


def shifted_pad(model: onnx.ModelProto, layer: str) -> None:
    (node,) = (n for n in model.graph.node if layer in n.output)
    (pads,) = (a for a in node.attribute if a.name == "pads")
    pads.ints[:] = [0, 1, 2, 1]


def _weight(model: onnx.ModelProto, layer: str) -> onnx.TensorProto:
    return next(i for i in model.graph.initializer if i.name == f"{layer}.weight")


@pytest.mark.parametrize("layer", ["far", "again"])
@pytest.mark.parametrize("fault", [off_by_a_thousandth, transposed, shifted_pad])
def test_a_wrong_kernel_fails_before_and_after_amplified_rounding(
    fault: Callable[[onnx.ModelProto, str], None],
    layer: str,
    files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    import caffe2torch.lower.to_onnx

    right = caffe2torch.lower.to_onnx.complete

    def wrong(*arguments: Any) -> onnx.ModelProto:
        model = right(*arguments)
        if any(layer in node.output for node in model.graph.node):
            fault(model, layer)
        return model

    monkeypatch.setattr(caffe2torch.lower.to_onnx, "complete", wrong)
    engines = ("torch", "onnxruntime")
    report = caffe2torch.check_parity(*files, engines=engines, bisect=tmp_path / "found")
    assert not report.passed
    assert [blob for blob, kind in kinds(report).items() if kind == DIFFERS] == [layer]
    assert report.bisection is not None
    assert [name for name, _ in report.bisection.layers] == [layer]


def test_torch_is_judged_too(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from caffe2torch.engines.torch import TorchEngine

    right = TorchEngine.run

    def wrong(self: TorchEngine, inputs: Any) -> Any:
        blobs = right(self, inputs)
        return {**blobs, "again": blobs["again"] * np.float32(1.01)}

    monkeypatch.setattr(TorchEngine, "run", wrong)
    report = caffe2torch.check_parity(*files, engines=("torch", "onnxruntime"))
    assert kinds(report)["again"] == DIFFERS
    (pair,) = report.comparisons
    assert pair.verdicts["again"].reason.startswith("torch is")


KNOWN_IN = {
    "axpy_opencv": "OpenCV 4 adds the wrong bottoms of Axpy (layer 'axpy')",
    "lrn_k_opencv": "OpenCV ignores lrn_param.k and takes 1 (layer 'norm')",
    "ssd_nothing_found": "OpenCV clips boxes where prior_box_param.clip is not given",
    "duplicate_layer_names": None,
    "silence_only": None,
    "no_output_loss_without_top": None,
    "parity_crash/net": None,
}


@pytest.mark.parametrize("name", KNOWN_IN)
def test_faults_of_opencv_and_odd_nets_do_not_fail(name: str, tmp_path: Path) -> None:
    folder = genuine("SHARED", "faults", *([] if "/" in name else ["wild"]))
    model = folder / f"{name}.caffemodel"
    words = ["parity", str(model if model.exists() else folder / f"{name}.prototxt")]
    words += ["--prototxt", str(folder / f"{name}.prototxt")] if model.exists() else []
    paths = {kind: tmp_path / f"r.{kind}" for kind in ("json", "junit", "report")}
    for kind, path in paths.items():
        words += [f"--{kind}", str(path)]
    result = CliRunner().invoke(main, [*words, "--allow-missing"])
    assert result.exit_code == 0, result.output
    reason = KNOWN_IN[name]
    if reason is None or not model.exists() or "opencv was skipped" in result.output:
        return
    assert reason in result.output
    pairs = json.loads(paths["json"].read_text())["comparisons"]
    assert [b["verdict"] for p in pairs for b in p["blobs"] if b["reason"]][:1] == [KNOWN]
    skipped = ElementTree.parse(paths["junit"]).findall(".//testcase/skipped")
    assert any(reason in str(case.get("message")) for case in skipped)
    assert reason.replace("'", "&#39;") in paths["report"].read_text()


@pytest.mark.filterwarnings("ignore:layer .* draws at random")
def test_opencv_is_skipped_where_it_does_not_know_an_input(tmp_path: Path) -> None:
    source = 'layer { name: "%s" type: "DummyData" top: "%s" dummy_data_param {'
    source += ' shape { dim: 2 dim: 3 } data_filler { type: "gaussian" } } }'
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        "".join(source % (name, name) for name in "xy")
        + 'layer { name: "s" type: "Eltwise" bottom: "x" bottom: "y" top: "s" }'
    )
    write_caffemodel(caffe2torch.read(None, prototxt), tmp_path / "net.caffemodel")
    report = caffe2torch.check_parity(tmp_path / "net.caffemodel", prototxt)
    assert report.passed
    assert "OpenCV" in report.skipped["opencv"]


def test_a_known_fault_is_narrow() -> None:
    assert all(fault.engine == "opencv" for fault in KNOWN_FAULTS)
    text = 'layer { name: "n" type: "LRN" bottom: "x" top: "y" lrn_param { %s } }'
    head = 'input: "x" input_shape { dim: 1 dim: 6 dim: 4 dim: 4 } '
    (lrn,) = (fault for fault in KNOWN_FAULTS if fault.type == "LRN")
    for params, expected in (
        ("k: 2", True),
        ("k: 1 alpha: 3", False),
        ("k: 2 norm_region: WITHIN_CHANNEL", False),
    ):
        (node,) = build_graph(parse_prototxt(head + text % params)).nodes
        assert lrn.when(node) is expected


def detections(*rows: tuple[float, ...]) -> Any:
    return np.float32(rows)[None, None]


def test_only_the_order_of_equal_scores_is_free() -> None:
    first = detections((0, 1, 0.9, 0, 0, 1, 1), (0, 1, 0.9, 2, 2, 3, 3), (0, 2, 0.5, 4, 4, 5, 5))
    swapped = first[:, :, [1, 0, 2]]
    np.testing.assert_array_equal(matched_detections(first, swapped), first)
    other_scores = first[:, :, [0, 2, 1]]
    np.testing.assert_array_equal(matched_detections(first, other_scores), other_scores)
    for wrong in (other_scores, swapped + detections((0, 0, 0, 0.01, 0, 0, 0)), first[:, :, :2]):
        difference = BlobDifference("d", detections=True)
        difference.add(first, wrong)
        assert difference.exceeds(None)


def test_rows_that_rounding_does_not_decide_must_be_there() -> None:
    runs: list[Any] = [np.float32([[1, 2], [3, 4]]), np.float32([[1, 2], [5, 6]])]
    assert rows_left_open(runs, np.array([[1, 2], [7, 8]]), 0)
    assert rows_left_open(runs, np.array([[1, 2]]), 0)
    assert not rows_left_open(runs, np.array([[3, 4]]), 0)
    assert not rows_left_open(runs, np.array([[1, 2], [3, 4], [5, 6]]), 0)
    assert not rows_left_open([runs[0]] * 3, runs[1], 0)


def test_torch_is_no_culprit_where_another_float32_is_the_same(files: tuple[Path, Path]) -> None:
    """Beyond float32's range float64 is no judge of two engines that agree on the same numbers."""
    graph = caffe2torch.read(*files)
    data = {"x": np.zeros((2, 5, 9, 7), np.float32)}
    blobs = {blob: np.zeros(3) for blob in graph.blobs}
    judge = Judge(graph, data, {"torch": blobs, "onnxruntime": blobs}, {})
    right = Step((), (), 0.0, 1.0, by_torch=True)
    for of_torch, kind in ((True, ROUNDING), (False, DIFFERS)):
        wrong = Step((), (), np.inf, 0.0, by_torch=of_torch)
        judge._steps = {("torch", "again"): wrong, ("onnxruntime", "again"): right}
        assert judge.verdict("again", "torch", "onnxruntime", None).kind == kind
