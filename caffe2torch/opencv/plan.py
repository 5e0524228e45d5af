"""A choice of engine for one input size and one choice of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.compare import BlobDifference
from caffe2torch.engines import Engine
from caffe2torch.engines.onnxruntime import Session
from caffe2torch.engines.opencv import OpenCVOnnxEngine, has_free_sizes, quiet
from caffe2torch.errors import EngineError, SessionError
from caffe2torch.graph import Array, FloatArray, Graph
from caffe2torch.opencv.errors import OpenCVError

if TYPE_CHECKING:
    from caffe2torch.lower.to_onnx import OnnxModel

ENGINES = ("opencv", "onnxruntime")
"""What runs the ONNX form of a net here."""
TOLERANCE = 1e-4
"""Of an output's peak: what OpenCV may differ by from ONNX Runtime, in float32."""
HALF_TOLERANCE = 1e-2
"""The same for targets that compute in float16, with a mantissa of 10 bits."""
SEED = 0


@dataclass(frozen=True)
class Plan:
    """What runs some of a net's values; ``reason`` says why it is not OpenCV."""

    inputs: tuple[str, ...]
    name: str
    engine: Engine
    reason: str | None = None

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, Array]:
        """The outputs for the inputs of the net, of which some may not be needed."""
        try:
            return self.engine.run({name: inputs[name] for name in self.inputs})
        except EngineError as error:
            raise OpenCVError(f"OpenCV cannot run the net: {error}") from error


def make_plan(
    graph: Graph,
    model: OnnxModel,
    outputs: tuple[str, ...],
    inputs: Mapping[str, FloatArray],
    wanted: str | None,
    backend: int,
    target: int,
) -> Plan:
    """Choose the engine: OpenCV if it agrees with ONNX Runtime on ``inputs``.

    Raises OpenCVError where an input is not set, or where ``wanted`` is ``"opencv"`` and
    OpenCV cannot run the net.
    """
    from caffe2torch.lower.to_onnx import complete, part_of

    part = part_of(model, outputs)
    names = tuple(i.name for i in part.skeleton.graph.input)
    missing = [name for name in names if name not in inputs]
    if missing:
        raise OpenCVError(f"the input {missing[0]!r} is not set; call setInput first.")
    content = complete(part).SerializeToString()
    reference = Session(content)
    if wanted == "onnxruntime":
        return Plan(names, "onnxruntime", reference)
    needed = {name: inputs[name] for name in names}
    small = next((v for v, shape in graph.shapes.items() if len(shape) < 2), None)
    try:
        if small is not None and is_opencv_4():  # Some of these end the process.
            raise EngineError(f"OpenCV 4 has no blobs of fewer than two axes ({small!r})")
        with quiet():
            candidate = OpenCVOnnxEngine(
                content, outputs, backend, target, renewed=has_free_sizes(graph)
            )
            tolerance = HALF_TOLERANCE if is_half(target) else TOLERANCE
            reason = refusal(candidate, reference, needed, tolerance)
    except EngineError as error:
        reason = str(error)
    if reason is None:
        return Plan(names, "opencv", candidate)
    if wanted == "opencv":
        raise OpenCVError(f"OpenCV does not run this net rightly: {reason}")
    return Plan(names, "onnxruntime", reference, reason)


def refusal(
    candidate: Engine, reference: Engine, inputs: Mapping[str, FloatArray], tolerance: float
) -> str | None:
    """Why ``candidate`` must not be used; None if it agrees with ``reference``.

    Both run ``inputs`` and seeded random numbers of the same range. OpenCV's ONNX reader
    gives wrong values for some graphs without an error.
    """
    rng = np.random.default_rng(SEED)
    for feed in (inputs, {name: _random_like(rng, a) for name, a in inputs.items()}):
        try:
            values, right = candidate.run(feed), reference.run(feed)
        except (EngineError, SessionError) as error:
            return str(error)
        for name, expected in right.items():
            cause = difference(values[name], expected, tolerance)
            if cause is not None:
                return f"{name!r} {cause}"
    return None


def difference(value: Array, expected: Array, tolerance: float) -> str | None:
    """How ``value`` differs by more than ``tolerance`` of the peak, None if it does not."""
    if value.shape != expected.shape:
        return f"has the shape {value.shape}, not {expected.shape}"
    found = BlobDifference("")
    found.add(expected, value)
    if not found.exceeds(tolerance * found.peak + float(np.finfo(np.float32).eps)):
        return None
    return f"differs by {found.max_abs:.2g} at a peak of {found.peak:.2g}"


def is_half(target: int) -> bool:
    """Whether ``target`` is one of OpenCV's DNN_TARGETs that compute in float16."""
    import cv2

    names = [n for n in dir(cv2.dnn) if n.startswith("DNN_TARGET") and n.endswith("FP16")]
    return target in {getattr(cv2.dnn, name) for name in names}


def is_opencv_4() -> bool:
    """Whether the installed OpenCV is older than 5."""
    import cv2

    return int(cv2.__version__.split(".")[0]) < 5


def _random_like(rng: np.random.Generator, array: FloatArray) -> FloatArray:
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (np.isfinite([low, high]).all() and low < high):
        low, high = -1.0, 1.0
    return rng.uniform(low, high, array.shape).astype(np.float32)
