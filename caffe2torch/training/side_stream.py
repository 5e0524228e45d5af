"""Batches on their way to a GPU while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class SideStream:
    """Calls what moves a batch to ``device`` in a stream of its own, where the device is a GPU.

    As nothing in a training step waits for the GPU, the copy of a batch from pinned memory, and
    what is computed of it, go on while the step before it computes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        on_gpu = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_gpu else None  # type: ignore[no-untyped-call]  # untyped in torch

    def __call__(self, make: Callable[[], T], tensors: Callable[[T], Iterable[object]]) -> T:
        """What ``make`` returns; ``tensors`` names what the device reads of it from here on."""
        if self._stream is None:
            return make()
        with torch.cuda.stream(self._stream):
            made = make()
        compute = torch.cuda.current_stream(self.device)
        compute.wait_stream(self._stream)
        for tensor in tensors(made):
            if isinstance(tensor, Tensor) and tensor.is_cuda:
                tensor.record_stream(compute)  # Its memory is not used again before that.
        return made
