"""OpenVINO on the CPU, on the ONNX lowering: in float32, and as it computes by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from caffe2torch.engines import Blobs, Job, library, register_engine
from caffe2torch.engines.onnxruntime import ShownModel
from caffe2torch.errors import EngineError, first_line

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray

PRECISION = "INFERENCE_PRECISION_HINT"
TYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
"""What OpenVINO may compute in, by its own names."""


@register_engine("openvino", by_default=False)
class OpenVINOEngine:
    """OpenVINO with the hint that it compute in float32."""

    hint: str | None = "f32"

    def __init__(self, job: Job) -> None:
        openvino = library("openvino", "OpenVINO", "'caffe2torch[openvino]'")
        self.shown = ShownModel(job)
        self.names = [output.name for output in self.shown.model.graph.output]
        core = openvino.Core()
        try:
            model = core.read_model(self.shown.model.SerializeToString())
            options = {} if self.hint is None else {PRECISION: self.hint}
            self.compiled = core.compile_model(model, "CPU", options)
            found = self.compiled.get_property(PRECISION).to_string()
        except Exception as error:  # Its errors have no common base.
            raise EngineError(f"OpenVINO cannot read the net: {first_line(error)}") from error
        # It drops inputs that nothing reads but for their shapes.
        self.reads = {name for port in self.compiled.inputs for name in port.get_names()}
        self.precision = TYPES.get(found, found)

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob that is a value of the graph."""
        try:
            values = self.compiled({n: a for n, a in inputs.items() if n in self.reads})
        except Exception as error:
            raise EngineError(f"OpenVINO cannot run the net: {first_line(error)}") from error
        return self.shown.named({name: values[i].copy() for i, name in enumerate(self.names)})


@register_engine("openvino-default", by_default=False)
class OpenVINODefaultEngine(OpenVINOEngine):
    """OpenVINO without a hint: in bfloat16 on processors that are made for it."""

    hint = None
