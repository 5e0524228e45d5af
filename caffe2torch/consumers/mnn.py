"""MNN, Alibaba's engine for phones, by its Python package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from caffe2torch.consumers import Consumer, Doubt, installed, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array, FloatArray, Shape


AFTER = ("Add", "BatchNormalization", "Identity", "Mul")
"""What MNN takes into a convolution before it."""


@register_consumer("mnn")
class MNN(Consumer):
    """It plans with fixed sizes, and convolves over two axes: a convolution over one gets a second.

    The file is converted by MNN's own program, which is called from its compiled module: its Python
    package MNN.tools installs packages when it is imported.
    """

    title = "MNN"
    packages = ("MNN==3.6.1",)
    form: ClassVar[Mapping[str, Any]] = {"static": True}
    source = "what MNN 3.6 was measured to read"
    note = "MNN computes in float16 where the device has it: ask for precision high."
    load = "MNNConvert -f ONNX --modelFile net.onnx --MNNModel net.mnn --bizCode net"

    def version(self) -> str | None:
        return installed("MNN")

    def rewrite(self, model: onnx.ModelProto) -> None:
        from caffe2torch.consumers._rewriting import convolve_over_two_axes, replace_nodes

        replace_nodes(model, convolve_over_two_axes)

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        from caffe2torch.consumers._rewriting import attributes_of, has_empty_windows

        yield from super().doubts(model)
        constants = {i.name: i for i in model.graph.initializer}
        makers = {name: node for node in model.graph.node for name in node.output}
        axes: dict[str, int] = {}  # Of the convolution that an array is made of.
        for node in model.graph.node:
            given = attributes_of(node)
            if len(given.get("kernel_shape", ())) > 2 and (
                node.op_type == "ConvTranspose" or {*given.get("dilations", ())} - {1}
            ):
                yield Doubt(
                    node, "over three axes it is wrong there for some strides and dilations"
                )
            if node.op_type in ("Conv", "ConvTranspose"):
                axes[node.output[0]] = len(given["kernel_shape"])
            elif node.op_type in AFTER and node.input[0] in axes:
                axes[node.output[0]] = count = axes[node.input[0]]
                other = makers.get(node.input[1]) if len(node.input) == 2 else None
                is_moved = other is not None and other.op_type == "Unsqueeze"
                if other is not None and is_moved and constants[other.input[1]].dims[0] != count:
                    yield Doubt(node, "it takes what follows a convolution for a channel's")
            if node.op_type == "MaxPool" and len(node.output) > 1:
                yield Doubt(node, "its indices are wrong there where a window is padded")
            elif node.op_type == "MaxPool" and has_empty_windows(node, model):
                yield Doubt(node, "a window without pixels gives -16777216 there")

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import _tools
        import numpy as np
        from MNN import expr, nn

        with TemporaryDirectory() as folder:
            made = str(Path(folder, "net.mnn"))
            form = ["-f", "ONNX", "--modelFile", str(model), "--MNNModel", made, "--bizCode", "net"]
            _tools.mnnconvert(["mnnconvert", *form])
            if not Path(made).exists():
                raise ValueError("its converter has not made a model")
            exact = {"backend": "CPU", "numThread": 1, "precision": "high"}
            manager = nn.create_runtime_manager((exact,))
            net = nn.load_module_from_file(made, [*inputs], [*outputs], runtime_manager=manager)
            feed = []
            for array in inputs.values():
                value = expr.placeholder(list(array.shape), expr.NCHW)
                value.write(np.ascontiguousarray(array))
                feed.append(value)
            found = net.forward(feed)
        values = found if isinstance(found, list | tuple) else [found]
        return {name: _array(value) for name, value in zip(outputs, values, strict=True)}


def _array(value: Any) -> Array:
    """The values in the order of C; MNN may keep them in blocks of four channels."""
    import numpy as np
    from MNN import expr

    plain = expr.convert(value, expr.NCHW) if value.data_format == expr.NC4HW4 else value
    array: Array = np.array(plain.read()).reshape(plain.shape)
    return array
