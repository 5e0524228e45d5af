"""tract, in Rust, by its Python package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caffe2torch.consumers import Consumer, Doubt, installed, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array, FloatArray, Shape


@register_consumer("tract")
class Tract(Consumer):
    """It takes open batches and files whose inputs are given their sizes beforehand."""

    title = "tract"
    packages = ("tract==0.23.9",)
    source = "what tract 0.23 was measured to read"
    avoid = (
        "Do not simplify a file for tract, but one of --static by onnxsim: of an open batch "
        "simplifiers declare sizes that it cannot infer, and onnxslim fails for detections."
    )
    load = 'tract.onnx().load("net.onnx").into_model().into_runnable()'

    def version(self) -> str | None:
        return installed("tract")

    def rewrite(self, model: onnx.ModelProto) -> None:
        """Name the open sizes of inputs: tract takes no size without a name or a value."""
        for value in model.graph.input:
            for axis, size in enumerate(value.type.tensor_type.shape.dim):
                if not size.HasField("dim_value") and not size.dim_param:
                    size.dim_param = f"{value.name}_{axis}"

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        from caffe2torch.consumers._rewriting import products_in_a_row

        yield from super().doubts(model)
        for product in products_in_a_row(model):
            if product.rows < 2:
                yield Doubt(product.node, "it cannot plan a product of one value for one image")

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import numpy as np
        import tract

        def values(sizes: bool) -> list[Array]:
            read = tract.onnx().load(str(model))
            for position, array in enumerate(inputs.values()) if sizes else ():
                read.set_input_fact(position, ",".join(map(str, (*array.shape, "f32"))))
            made = read.into_model().into_runnable().run(list(inputs.values()))
            return [value.to_numpy() for value in made]

        found, sized = values(False), values(True)
        for name, first, second in zip(outputs, found, sized, strict=True):
            if not np.allclose(first, second, rtol=1e-4, atol=1e-5, equal_nan=True):
                raise ValueError(f"{name!r} changes when the inputs are given their sizes")
        return dict(zip(outputs, found, strict=True))
