"""What runs the net: OpenCV on our ONNX graph where that is right, else ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from caffe2torch.graph import Array, FloatArray
from caffe2torch.opencv.errors import OpenCVError

ENGINES = ("opencv", "onnxruntime")
TOLERANCE = 1e-4
"""Of an output's peak: what OpenCV may differ by from ONNX Runtime, in float32."""
HALF_TOLERANCE = 1e-2
"""The same for targets that compute in float16, with a mantissa of 10 bits."""
SEED = 0


class Runner(Protocol):
    """A graph that is ready to run."""

    name: str

    def run(self, inputs: Mapping[str, FloatArray]) -> list[Array]:
        """The outputs for ``inputs`` ({blob: array})."""


class OnnxRuntimeRunner:
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # Errors are raised; they need not be printed too.
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Mapping[str, FloatArray]) -> list[Array]:
        """The outputs, in the model's order."""
        try:
            return list(self.session.run(None, dict(inputs)))
        except Exception as error:  # ONNX Runtime's errors have no common base.
            raise OpenCVError(f"ONNX Runtime cannot run the net: {_first_line(error)}") from error


class RefusedError(Exception):
    """Why ``cv2.dnn`` cannot run a graph, or not rightly."""


class OpenCVRunner:
    """``cv2.dnn.readNetFromONNX``. Raises RefusedError where it fails."""

    name = "opencv"

    def __init__(self, model: bytes, outputs: Sequence[str], backend: int, target: int) -> None:
        import cv2

        self.outputs = list(outputs)
        try:
            self.net = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
            self.net.setPreferableBackend(backend)
            self.net.setPreferableTarget(target)
        except cv2.error as error:
            raise RefusedError(_first_line(error)) from error

    def run(self, inputs: Mapping[str, FloatArray]) -> list[Array]:
        """The outputs, copied: OpenCV uses their memory again."""
        import cv2

        try:
            for name, array in inputs.items():
                self.net.setInput(array, name)
            return [np.array(value) for value in self.net.forward(self.outputs)]
        except cv2.error as error:
            raise RefusedError(_first_line(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep OpenCV from writing errors to the terminal that are answered here.

    OpenCV 4.8 cannot be told to.
    """
    import cv2

    set_level = getattr(getattr(cv2.utils, "logging", None), "setLogLevel", None)
    level = set_level(0) if set_level else None
    try:
        yield
    finally:
        if set_level:
            set_level(level)


def is_half(target: int) -> bool:
    """Whether ``target`` is one of OpenCV's DNN_TARGETs that compute in float16."""
    import cv2

    names = [n for n in dir(cv2.dnn) if n.startswith("DNN_TARGET") and n.endswith("FP16")]
    return target in {getattr(cv2.dnn, name) for name in names}


def refusal(
    candidate: OpenCVRunner,
    reference: OnnxRuntimeRunner,
    inputs: Mapping[str, FloatArray],
    tolerance: float,
) -> str | None:
    """Why ``candidate`` must not be used; None if it agrees with ``reference``.

    Both run ``inputs`` and seeded random numbers of the same range. OpenCV's ONNX reader
    gives wrong values for some graphs without an error.
    """
    rng = np.random.default_rng(SEED)
    for feed in (inputs, {name: _random_like(rng, a) for name, a in inputs.items()}):
        try:
            values, right = candidate.run(feed), reference.run(feed)
        except (RefusedError, OpenCVError) as error:
            return str(error)
        for name, value, expected in zip(candidate.outputs, values, right, strict=True):
            cause = difference(value, expected, tolerance)
            if cause is not None:
                return f"{name!r} {cause}"
    return None


def difference(value: Array, expected: Array, tolerance: float) -> str | None:
    """How ``value`` differs by more than ``tolerance`` of the peak, None if it does not.

    Infinities, NaN and Caffe's FLT_MAX must be the same: their differences mean nothing.
    """
    if value.shape != expected.shape:
        return f"has the shape {value.shape}, not {expected.shape}"
    usual = np.abs(expected) < np.finfo(np.float32).max
    if not np.array_equal(value[~usual], expected[~usual], equal_nan=True):
        return "differs where ONNX Runtime has no finite number"
    worst = np.abs(value[usual] - expected[usual]).max(initial=0)
    peak = np.abs(expected[usual]).max(initial=0)
    if worst <= tolerance * peak + np.finfo(np.float32).eps:
        return None
    return f"differs by {worst:.2g} at a peak of {peak:.2g}"


def _random_like(rng: np.random.Generator, array: FloatArray) -> FloatArray:
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (np.isfinite([low, high]).all() and low < high):
        low, high = -1.0, 1.0
    return rng.uniform(low, high, array.shape).astype(np.float32)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
