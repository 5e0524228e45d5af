"""ONNX Runtime on the CPU: any ONNX model, and the ONNX lowering as an engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from caffe2torch.engines import Blobs, Job, register_engine
from caffe2torch.errors import SessionError, first_line

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray


class Session:
    """An ONNX model, given by its bytes or its path, that is ready to run.

    ``inputs`` and ``outputs`` are the shapes by name; an open size in them is a text.
    ``threads`` 0 leaves the number to ONNX Runtime. Raises SessionError for a model that it
    cannot load.
    """

    def __init__(self, model: bytes | str | os.PathLike[str], *, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # Errors are raised; they need not be printed too.
        content = model if isinstance(model, bytes) else os.fspath(model)
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors have no common base.
            raise SessionError(f"ONNX Runtime cannot load the net: {first_line(error)}") from error
        self.inputs = {value.name: tuple(value.shape) for value in self._session.get_inputs()}
        self.outputs = {value.name: tuple(value.shape) for value in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, Array]:
        """The outputs by name. Raises SessionError for inputs that the model does not take."""
        try:
            values = self._session.run(list(self.outputs), dict(inputs))
        except Exception as error:
            raise SessionError(f"ONNX Runtime cannot run the net: {first_line(error)}") from error
        return dict(zip(self.outputs, values, strict=True))


@register_engine("onnxruntime")
class OnnxRuntimeEngine:
    """The ONNX lowering; to show every blob, each is made an output."""

    def __init__(self, job: Job) -> None:
        from caffe2torch.lower.to_onnx import complete, to_onnx

        graph, lowered = job.graph, to_onnx(job.graph)
        model = complete(lowered)
        known = {output.name for output in model.graph.output}
        inputs = {value.name for value in model.graph.input}
        self.blob_of = {v: blob for blob, v in graph.blobs.items() if v not in inputs}
        if job.every_blob:
            model.graph.output.extend(
                info
                for name, info in lowered.values.items()
                if name in self.blob_of and name not in known
            )
        self.session = Session(model.SerializeToString())

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob that is a value of the graph."""
        values = self.session.run(inputs)
        return {self.blob_of.get(name, name): value for name, value in values.items()}
