"""A choice of engine for one input size and one choice of outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Array, FloatArray, Graph
from caffe2torch.opencv.engines import (
    HALF_TOLERANCE,
    TOLERANCE,
    OnnxRuntimeRunner,
    OpenCVRunner,
    RefusedError,
    Runner,
    is_half,
    quiet,
    refusal,
)
from caffe2torch.opencv.errors import OpenCVError

if TYPE_CHECKING:
    from caffe2torch.lower.to_onnx import OnnxModel


@dataclass(frozen=True)
class Plan:
    """A runner of some of a net's values; ``reason`` says why it is not OpenCV."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    runner: Runner
    reason: str | None

    def run(self, inputs: Mapping[str, FloatArray]) -> list[Array]:
        """The outputs for the inputs of the net, of which some may not be needed."""
        try:
            return self.runner.run({name: inputs[name] for name in self.inputs})
        except RefusedError as error:
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
    reference = OnnxRuntimeRunner(content)
    if wanted == "onnxruntime":
        return Plan(names, outputs, reference, None)
    needed = {name: inputs[name] for name in names}
    try:
        reason = opencv_4_refusal(graph)
        if reason is None:
            with quiet():
                candidate = OpenCVRunner(content, outputs, backend, target)
                tolerance = HALF_TOLERANCE if is_half(target) else TOLERANCE
                reason = refusal(candidate, reference, needed, tolerance)
    except RefusedError as error:
        reason = str(error)
    if reason is None:
        return Plan(names, outputs, candidate, None)
    if wanted == "opencv":
        raise OpenCVError(f"OpenCV does not run this net rightly: {reason}")
    return Plan(names, outputs, reference, reason)


def is_opencv_4() -> bool:
    """Whether the installed OpenCV is older than 5."""
    import cv2

    return int(cv2.__version__.split(".")[0]) < 5


def opencv_4_refusal(graph: Graph) -> str | None:
    """Why OpenCV 4 must not even be tried: it ends the process on some blobs without axes."""
    if not is_opencv_4():
        return None
    small = next((v for v, shape in graph.shapes.items() if len(shape) < 2), None)
    return None if small is None else f"OpenCV 4 has no blobs of fewer than two axes ({small!r})"
