"""Apache TVM, by Relax's ONNX reader, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from caffe2torch.consumers import Consumer, Doubt, installed, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.consumers._rewriting import Writer
    from caffe2torch.graph import Array, FloatArray, Shape


@register_consumer("tvm")
class TVM(Consumer):
    """It compiles for fixed sizes; detections still come in any number."""

    title = "TVM"
    packages = ("apache-tvm==0.27.0.post1", "scipy==1.17.1")
    form: ClassVar[Mapping[str, Any]] = {"static": True}
    source = "what TVM 0.27 was measured to read"
    load = 'relax.frontend.onnx.from_onnx(onnx.load("net.onnx"))'

    def version(self) -> str | None:
        return installed("apache-tvm")

    def rewrite(self, model: onnx.ModelProto) -> None:
        from caffe2torch.consumers._rewriting import replace_nodes

        chosen = {
            node.output[0]: node.input[0]
            for node in model.graph.node
            if node.op_type == "Gather" and "NonMaxSuppression" in node.input[0]
        }
        replace_nodes(model, lambda node, writer: _ones_of_chosen(node, chosen, writer))

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        from caffe2torch.consumers._rewriting import convolved_over_more

        yield from super().doubts(model)
        yield from convolved_over_more(model, 3)
        for node in model.graph.node:
            if node.op_type == "MaxPool" and len(node.output) > 1:
                yield Doubt(node, "it gives no indices of maxima")

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import onnx
        import tvm
        from tvm import relax
        from tvm.relax.frontend.onnx import from_onnx

        net = from_onnx(onnx.load(model), keep_params_in_input=False)
        net = relax.transform.DecomposeOpsForInference()(net)
        built = tvm.compile(net, target=tvm.target.Target("llvm"))
        machine = relax.VirtualMachine(built, tvm.cpu())
        found = machine["main"](*(tvm.runtime.tensor(array) for array in inputs.values()))
        values = [found] if hasattr(found, "numpy") else list(found)
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}


def _ones_of_chosen(node: onnx.NodeProto, chosen: Mapping[str, str], writer: Writer) -> bool | None:
    """For ``replace_nodes``: mark what NonMaxSuppression has chosen with ones of its own values.

    TVM takes the number that it may choose for the number that it has chosen.
    Before: ``ScatterND(zeros, Gather(chosen, [0, 2]), Expand(1, Shape(chosen)[:1]))``.
    After: the last is ``Cast(chosen[:, 0] >= 0)``.
    """
    import numpy as np

    if node.op_type != "ScatterND" or node.input[1] not in chosen:
        return False
    zero = writer.const(np.array(0), f"{node.output[0]}/zero")
    first = writer.op("Gather", chosen[node.input[1]], zero, axis=1)
    ones = writer.op("Cast", writer.op("GreaterOrEqual", first, zero), to=1)
    writer.op("ScatterND", *node.input[:2], ones, output=node.output[0])
    return None
