"""ONNX Runtime: any ONNX model on the CPU, and the ONNX lowering there or on other devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from caffe2torch.engines import Blobs, Engine, Job, register_engine
from caffe2torch.errors import EngineError, NotInstalledError, SessionError, first_line

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array, FloatArray

PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": ("TensorrtExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime"),
}
"""Where ONNX Runtime computes but for the CPU: its own name, and the package that has it, by the
name of the engine ``onnxruntime-NAME``."""
CPU = "CPUExecutionProvider"


class Session:
    """An ONNX model, given by its bytes or its path, that is ready to run.

    ``inputs`` and ``outputs`` are the shapes by name; an open size in them is a text.
    ``threads`` 0 leaves the number to ONNX Runtime. ``provider`` computes what it can, the CPU the
    rest. Raises SessionError for a model that it cannot load.
    """

    def __init__(
        self, model: bytes | str | os.PathLike[str], *, threads: int = 0, provider: str = CPU
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # Errors are raised; they need not be printed too.
        content = model if isinstance(model, bytes) else os.fspath(model)
        try:
            self._session = onnxruntime.InferenceSession(
                content, options, providers=list(dict.fromkeys([provider, CPU]))
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


class ShownModel:
    """The ONNX lowering of a job's graph, at one batch if ``batch`` is given.

    To show every blob, each is made an output; ``named`` gives what an engine computed by Caffe's
    names.
    """

    def __init__(self, job: Job, batch: int | None = None) -> None:
        from caffe2torch.lower.to_onnx import complete, to_onnx

        lowered = to_onnx(job.graph, batch=batch)
        self.model: onnx.ModelProto = complete(lowered)
        outputs = self.model.graph.output
        known = {output.name for output in outputs}
        inputs = {value.name for value in self.model.graph.input}
        self.blob_of = {v: blob for blob, v in job.graph.blobs.items() if v not in inputs}
        if job.every_blob:
            outputs.extend(
                info
                for name, info in lowered.values.items()
                if name in self.blob_of and name not in known
            )

    def named(self, values: Mapping[str, Array]) -> Blobs:
        """Values of the graph by blob."""
        return {self.blob_of.get(name, name): value for name, value in values.items()}


@register_engine("onnxruntime")
class OnnxRuntimeEngine:
    """The ONNX lowering on the CPU, or where ``provider`` computes."""

    def __init__(self, job: Job, provider: str = CPU) -> None:
        self.shown = ShownModel(job)
        self.session = Session(self.shown.model.SerializeToString(), provider=provider)

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob that is a value of the graph."""
        return self.shown.named(self.session.run(inputs))


def _elsewhere(provider: str, package: str) -> Callable[[Job], Engine]:
    def start(job: Job) -> Engine:
        import onnxruntime

        if provider not in onnxruntime.get_available_providers():
            raise NotInstalledError(
                f"the installed ONNX Runtime has no {provider}: pip install {package}"
            )
        try:
            return OnnxRuntimeEngine(job, provider)
        except SessionError as error:  # There may be no such device.
            raise EngineError(str(error)) from error

    return start


for _name, (_provider, _package) in PROVIDERS.items():
    register_engine(f"onnxruntime-{_name}", by_default=False)(_elsewhere(_provider, _package))
