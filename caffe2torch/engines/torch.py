"""The torch lowering on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING

from caffe2torch.engines import BASELINE, Blobs, Job, register_engine

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray


@register_engine(BASELINE)
class TorchEngine:
    """The module that ``caffe2torch.load`` gives. Each run is a first pass of it."""

    def __init__(self, job: Job) -> None:
        from caffe2torch.lower.memory import remembering
        from caffe2torch.lower.to_torch import to_torch

        self.remembers = bool(remembering(job.graph))
        self.module = to_torch(job.graph).eval()
        self.every_blob = job.every_blob

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob of the net, or its outputs."""
        import torch

        module = deepcopy(self.module) if self.remembers else self.module
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.no_grad():
            if self.every_blob:
                blobs = module.blobs(tensors)
            else:
                found = module(tensors)
                blobs = found if isinstance(found, dict) else {module.output_names[0]: found}
        return {name: tensor.numpy() for name, tensor in blobs.items()}
