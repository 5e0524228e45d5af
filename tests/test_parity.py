"""The parity check: real agreement passes, a planted difference is found and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support import CASES, genuine, genuine_squeezenet, recorded

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.compare import BlobDifference

NET = CASES / "net_squeezenet_v1_1"


def test_three_engines_agree() -> None:
    report = caffe2torch.check_parity(NET / "net.caffemodel", NET / "net.prototxt")
    assert report.passed
    assert {c.engine for c in report.comparisons} >= {"onnxruntime"}
    assert all(len(c.blobs) > 10 for c in report.comparisons)


def test_a_wrong_reference_is_found(tmp_path: Path) -> None:
    inputs, outputs, middle = recorded(NET.name)
    right = outputs | middle
    np.savez(
        tmp_path / "right.npz",
        **{k.replace("/", "__"): v for k, v in right.items() if "/" not in k},
    )
    files = (NET / "net.caffemodel", NET / "net.prototxt")
    good = caffe2torch.check_parity(*files, inputs=inputs, reference=tmp_path / "right.npz")
    assert good.passed
    wrong = {k: v for k, v in right.items() if "/" not in k}
    wrong["conv1"] = wrong["conv1"] + np.float32(0.1) * np.abs(wrong["conv1"]).max()
    np.savez(tmp_path / "wrong.npz", **wrong)
    bad = caffe2torch.check_parity(*files, inputs=inputs, reference=tmp_path / "wrong.npz")
    assert not bad.passed
    failed = next(c for c in bad.comparisons if c.engine == "reference")
    assert failed.first_divergence == "conv1"


def test_differences_are_exact_over_batches() -> None:
    found = BlobDifference("x")
    found.add(np.float32([[1, -4], [np.inf, 0]]), np.float32([[1.5, -4], [np.inf, 0]]))
    found.add(np.float32([[[8]], [[0]]]), np.float32([8, 0.25]))
    assert (found.max_abs, found.peak, found.max_rel) == (0.5, 8.0, 0.0625)
    found.add(np.float32([1]), np.float32([np.nan]))
    assert found.max_abs == np.inf


def test_caffes_mark_of_an_empty_region_is_no_peak() -> None:
    found, mark = BlobDifference("x"), np.finfo(np.float32).max
    found.add(np.float32([-mark, 2]), np.float32([-mark, 3]))
    assert (found.max_abs, found.peak) == (1, 2)
    assert found.exceeds(None)
    found.add(np.float32([-mark]), np.float32([0]))
    assert found.max_abs == float(mark)


def test_exit_codes(tmp_path: Path) -> None:
    run = CliRunner()
    arguments = ["parity", str(NET / "net.caffemodel"), "--prototxt", str(NET / "net.prototxt")]
    result = run.invoke(main, [*arguments, "--random", "1", "--json", str(tmp_path / "r.json")])
    assert result.exit_code == 0, result.output
    assert "parity: PASS" in result.output
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is True
    result = run.invoke(main, [*arguments, "--random", "1", "--tolerance", "0"])
    assert result.exit_code == 1, result.output
    assert "parity: FAIL" in result.output
    result = run.invoke(main, [*arguments, "--images", str(tmp_path)])
    assert result.exit_code == 2
    assert "has no images" in result.output


@pytest.mark.parametrize(("version", "top1", "top5"), [("1.0", 138, 181), ("1.1", 141, 179)])
def test_the_recorded_outputs_of_200_images(version: str, top1: int, top5: int) -> None:
    report = caffe2torch.check_parity(
        genuine_squeezenet(version),
        images=genuine("DATA", "imagenet_sample"),
        reference=genuine("REFERENCE", "imagenet_sample_pool10.npz"),
        engines=("torch", "onnxruntime"),
    )
    assert report.passed
    for pair in report.comparisons:
        if "reference" in (pair.engine, pair.baseline):
            (pool10,) = pair.blobs
            assert pool10.max_abs <= 1e-3
            assert pool10.max_rel <= 1e-4
            assert (pair.agreement.images, pair.agreement.top1) == (200, 200)
    for score in report.scores.values():
        assert (score.images, score.top1, score.top5) == (200, top1, top5)
