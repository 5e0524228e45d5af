"""What many tests need: the recorded nets, the genuine files, one session, one closeness check."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest

CASES = Path(__file__).parent / "conformance" / "cases"
"""Small nets with inputs and outputs that genuine Caffe computed, one folder a net."""
CASE_NAMES = sorted(path.parent.name for path in CASES.glob("*/case.json"))

OF_LAYER = 2e-5
"""Of the peak, for nets of a few layers: sums of some hundred products in another order."""
OF_NET = 1e-4
"""Of the peak, for whole networks, whose layers hand their roundings on."""
NEAR_ZERO = 1e-6
"""Beside it, absolute, where a blob may be zero but for rounding; the corpus' own advice."""

GENUINE = {
    "MODELS": "the genuine models",
    "DATA": "the sample images",
    "REFERENCE": "the outputs that genuine Caffe recorded",
    "SCHEMA_FACTS": "the facts of Caffe's schema",
    "SHARED": "the shared data: faults, fuzz, gradients, wild",
}
"""What CAFFE2TORCH_TEST_NAME leads to, by NAME."""


class Recorded(NamedTuple):
    """The arrays of a case by blob: what goes in, what comes out, what is between."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]
    middle: dict[str, Any]


def recorded(name: str) -> Recorded:
    """What genuine Caffe computed for the case ``name``."""
    return recorded_in(CASES / name)


def recorded_in(folder: Path) -> Recorded:
    """What genuine Caffe computed for the case in ``folder``."""
    with np.load(folder / "io.npz") as file:
        arrays = {key: file[key] for key in file.files}
    parts: Recorded = Recorded({}, {}, {})
    for prefix, part in zip(("in/", "out/", "mid/"), parts, strict=True):
        part |= {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return parts


def genuine(name: str, *below: str) -> Path:
    """The file or folder ``below`` what CAFFE2TORCH_TEST_``name`` names; skips without it."""
    folder = os.environ.get(f"CAFFE2TORCH_TEST_{name}")
    if not folder:
        pytest.skip(f"needs {GENUINE[name]}: set CAFFE2TORCH_TEST_{name}")
    return Path(folder, *below)


def training_cases(folder: Path) -> list[Path]:
    """Copies, in ``folder``, of the nets that genuine Caffe trained, one folder a case.

    Solvers write their snapshots beside the net, under the names of Caffe's own.
    """
    cases = sorted(path.parent for path in genuine("SHARED", "train").glob("*/case.json"))
    assert len(cases) > 25
    for case in cases:
        made = folder / case.name
        shutil.copytree(case, made, copy_function=shutil.copyfile)
        for below in (made, *made.glob("**/")):
            below.chmod(0o755)
    return [folder / case.name for case in cases]


def genuine_squeezenet(version: str) -> Path:
    """The genuine caffemodel of SqueezeNet ``version``; deploy.prototxt stands beside it."""
    return genuine("MODELS", f"squeezenet_v{version}", f"squeezenet_v{version}.caffemodel")


def assert_close(
    actual: Any,
    expected: Any,
    of_peak: float = OF_LAYER,
    *,
    absolute: float = 0.0,
    what: str = "",
) -> None:
    """Assert equal shapes, and values within ``of_peak`` of the largest expected magnitude.

    Sums of floating-point numbers err by their largest terms, so that a tolerance relative
    to each value would be too strict near zero and too loose elsewhere. Infinite values, NaN
    and the +-FLT_MAX that Caffe writes for "none" must be the same.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, what
    usual = np.abs(expected) < np.finfo(np.float32).max
    np.testing.assert_array_equal(actual[~usual], expected[~usual], what)
    peak = np.abs(expected[usual]).max(initial=0)
    worst = np.abs(actual[usual] - expected[usual]).max(initial=0)
    assert worst <= of_peak * peak + absolute, f"{what}: {worst} apart, peak {peak}"


def onnx_session(model: Any) -> onnxruntime.InferenceSession:
    """ONNX Runtime on a file or on a ModelProto, one thread, silent but for errors."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    source = model if isinstance(model, str | Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_onnx(model: Any, inputs: Mapping[str, Any] | Any) -> dict[str, Any]:
    """The outputs of a file, a ModelProto or a session, by name.

    ``inputs`` are arrays by name, or the array of the only input.
    """
    session = model if isinstance(model, onnxruntime.InferenceSession) else onnx_session(model)
    if not isinstance(inputs, Mapping):
        (only,) = session.get_inputs()
        inputs = {only.name: inputs}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))
