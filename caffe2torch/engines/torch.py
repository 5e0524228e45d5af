"""The torch lowering on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from caffe2torch.engines import BASELINE, Blobs, Job, register_engine

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray


@register_engine(BASELINE)
class TorchEngine:
    """The module that ``caffe2torch.load`` gives."""

    def __init__(self, job: Job) -> None:
        from caffe2torch.lower.to_torch import to_torch

        self.module = to_torch(job.graph).eval()

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob of the net."""
        import torch

        with torch.no_grad():
            blobs = self.module.blobs({k: torch.from_numpy(v) for k, v in inputs.items()})
        return {name: tensor.numpy() for name, tensor in blobs.items()}
