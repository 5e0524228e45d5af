"""OpenVINO's ONNX reader, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caffe2torch.consumers import Consumer, Doubt, installed, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array, FloatArray, Shape

EXACT = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


@register_consumer("openvino")
class OpenVINO(Consumer):
    """It takes open batches, and computes in bfloat16 where the CPU can, unless it is told."""

    title = "OpenVINO"
    packages = ("openvino==2026.4.1",)
    source = "what OpenVINO 2026.4 was measured to read, which is all that nets are written with"
    note = (
        "OpenVINO computes in bfloat16 or float16 where the device has it: compile with "
        "{'INFERENCE_PRECISION_HINT': 'f32'} for the results of Caffe."
    )
    load = 'core.compile_model("net.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})'

    def version(self) -> str | None:
        return installed("openvino")

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        from caffe2torch.consumers._rewriting import convolved_over_more, products_in_a_row

        yield from super().doubts(model)
        yield from convolved_over_more(model, 3)
        for product in products_in_a_row(model):
            if product.rows and product.by_one:
                yield Doubt(product.node, "it cannot plan two products of fixed sizes by one value")

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import openvino

        core = openvino.Core()
        found = core.compile_model(core.read_model(model), "CPU", EXACT)(dict(inputs))
        return {name: found[i] for i, name in enumerate(outputs)}
