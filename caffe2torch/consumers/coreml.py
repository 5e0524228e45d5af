"""Core ML on Apple's devices, by coremltools."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from caffe2torch.consumers import Consumer, installed, register_consumer

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Graph, Shape


@register_consumer("coreml")
class CoreML(Consumer):
    """An .mlpackage (ML program, iOS 17 or macOS 14) in float32, of fixed sizes.

    It is made by coremltools, on Linux too, of a torch module of the net's ONNX form, and run on
    macOS alone. In which order its topk gives equal scores, Core ML does not say.
    """

    title = "Core ML"
    suffix = ".mlpackage"
    packages = ("coremltools==9.0",)
    form: ClassVar[Mapping[str, Any]] = {"static": True, "fixed_rows": True}
    platform = "darwin"
    source = "what coremltools 9.0 was measured to convert, without a run"
    note = "Load it with computeUnits cpuOnly for the results of Caffe: others compute in float16."
    load = 'coremltools.models.MLModel("net.mlpackage", compute_units=ComputeUnit.CPU_ONLY)'

    def version(self) -> str | None:
        return installed("coremltools") if sys.platform == self.platform else None

    def write(self, graph: Graph, path: Path, **options: Any) -> None:
        from caffe2torch.consumers._program import write_translated

        write_translated(self, graph, path, **options)

    def translate(self, model: Path, output: Path) -> None:
        import coremltools
        import onnx
        import torch

        from caffe2torch.consumers._program import program_of

        module, inputs = program_of(onnx.load(model))
        program = torch.export.export(module, inputs).run_decompositions({})
        coremltools.convert(
            program,
            convert_to="mlprogram",
            compute_precision=coremltools.precision.FLOAT32,
            minimum_deployment_target=coremltools.target.iOS17,
            skip_model_load=True,
        ).save(str(output))

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import coremltools

        unit = coremltools.ComputeUnit.CPU_ONLY
        net = coremltools.models.MLModel(str(model), compute_units=unit)
        description = net.get_spec().description
        names = [feature.name for feature in description.input]
        found = net.predict(dict(zip(names, inputs.values(), strict=True)))
        order = [feature.name for feature in description.output]
        return {
            name: found[key].reshape(outputs[name])
            for name, key in zip(outputs, order, strict=True)
        }
