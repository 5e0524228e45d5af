"""LiteRT (TensorFlow Lite), by Google's converter of torch modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from caffe2torch.consumers import Consumer, installed, register_consumer

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Graph, Shape


@register_consumer("litert")
class LiteRT(Consumer):
    """A .tflite of fixed sizes, whose inputs are args_0, args_1 and so on in the net's order.

    Its outputs are output_0 and so on, and images stay N, C, H, W. It is made by litert-torch, of a
    torch module of the net's ONNX form: of the net's own module it reads a pooling that rounds up
    wrongly, without an error.
    """

    title = "LiteRT"
    suffix = ".tflite"
    packages = ("litert-torch==0.10.0",)
    form: ClassVar[Mapping[str, Any]] = {"static": True, "fixed_rows": True}
    source = "what litert-torch 0.10 was measured to convert"
    note = (
        "The GPU delegate computes in float16: setPrecisionLossAllowed(false) for Caffe's results."
    )
    load = 'Interpreter("net.tflite").get_signature_runner()(args_0=image)["output_0"]'

    def version(self) -> str | None:
        return installed("litert-torch")

    def write(self, graph: Graph, path: Path, **options: Any) -> None:
        from caffe2torch.consumers._program import write_translated

        write_translated(self, graph, path, **options)

    def translate(self, model: Path, output: Path) -> None:
        import litert_torch
        import onnx

        from caffe2torch.consumers._program import program_of

        litert_torch.convert(*program_of(onnx.load(model))).export(str(output))

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(model), num_threads=1).get_signature_runner()
        found = runner(**{f"args_{i}": array for i, array in enumerate(inputs.values())})
        return {name: found[f"output_{i}"] for i, name in enumerate(outputs)}
