"""tract, in Rust, by its Python package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from caffe2torch.consumers import Consumer, installed, register_consumer

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Shape


@register_consumer("tract")
class Tract(Consumer):
    """It takes open batches and files whose inputs are given their sizes beforehand."""

    title = "tract"
    packages = ("tract==0.23.9",)
    source = "what tract 0.23 was measured to read"
    load = 'tract.onnx().load("net.onnx").into_model().into_runnable()'

    def version(self) -> str | None:
        return installed("tract")

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import tract

        found = tract.onnx().load(str(model)).into_model().into_runnable()
        values = found.run(list(inputs.values()))
        return {name: value.to_numpy() for name, value in zip(outputs, values, strict=True)}
