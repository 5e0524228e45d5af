"""The emitted source: the .py that ``caffe2torch convert`` writes, run with its weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from caffe2torch.engines import Blobs, Job, register_engine

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray

NAME = "emitted"


@register_engine("source", by_default=False)
class SourceEngine:
    """The module of the written source, for the net's outputs. Each run is a first pass of it."""

    def __init__(self, job: Job) -> None:
        from caffe2torch.artefact.write import write_graph

        self.inputs = [declared.name for declared in job.graph.inputs]
        self.outputs = job.graph.outputs
        with TemporaryDirectory(prefix="caffe2torch-") as folder:
            path = Path(folder, f"{NAME}.py")
            write_graph(job.graph, path, durable=False)
            self.module = _imported(path).load().eval()

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """The net's outputs."""
        import torch

        with torch.no_grad():
            found = deepcopy(self.module)(*(torch.from_numpy(inputs[n]) for n in self.inputs))
        blobs = found if isinstance(found, dict) else {self.outputs[0]: found}
        return {name: tensor.numpy() for name, tensor in blobs.items()}


def _imported(path: Path) -> Any:
    """The module of a file that was just written of a graph: names in a net are no code in it."""
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
