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

        self.module = to_torch(job.graph).eval()
        self.remembers = bool(remembering(job.graph))

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob of the net."""
        import torch

        module = deepcopy(self.module) if self.remembers else self.module
        with torch.no_grad():
            blobs = module.blobs({k: torch.from_numpy(v) for k, v in inputs.items()})
        return {name: tensor.numpy() for name, tensor in blobs.items()}
