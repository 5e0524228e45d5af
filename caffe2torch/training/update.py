"""From the gradients of a net's learned blobs to new values, as a solver asks for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caffe2torch.errors import NetError, ReadError
from caffe2torch.graph import FloatArray, Shape
from caffe2torch.lower.to_torch import array_of
from caffe2torch.training.optimisers import CaffeOptimiser
from caffe2torch.training.solver import Solver


@dataclass(frozen=True)
class Slot:
    """A learned blob as the update sees it.

    ``parameter`` holds its values, and the gradient in ``grad``, in any order of the elements:
    ``to_caffe`` and ``from_caffe`` turn a tensor of that form into an array of Caffe's
    ``shape`` and back. ``refresh`` brings the values of statistics, which the net itself
    changes, into ``parameter``; no gradient reaches them, and ``lr_mult`` is 0. ``gathered`` says
    that gradients of further tensors, of layers that share the blob in other forms, are added to
    its own after each backward pass.
    """

    shape: Shape
    lr_mult: float
    decay_mult: float
    parameter: nn.Parameter
    to_caffe: Callable[[Tensor], FloatArray] = array_of
    from_caffe: Callable[[FloatArray], FloatArray] = np.asarray
    refresh: Callable[[], None] | None = None
    gathered: bool = False


class Update:
    """The update rule of a solver on the learned blobs of a net, in Caffe's order."""

    def __init__(self, slots: Sequence[Slot], solver: Solver) -> None:
        self.slots, self.solver = slots, solver
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for slot in slots:
            groups.setdefault((slot.lr_mult, slot.decay_mult), []).append(slot.parameter)
        made: list[dict[str, Any]] = [
            {"params": params, "lr_mult": rate, "weight_decay": solver.weight_decay * decay}
            for (rate, decay), params in groups.items()
        ]
        if not made:
            raise NetError("the net has no learned blob: there is nothing to train")
        self.optimiser = CaffeOptimiser(
            made,
            solver.type,
            momentum=solver.momentum,
            momentum2=solver.momentum2,
            delta=solver.delta,
            rms_decay=solver.rms_decay,
            regularization=solver.regularization_type,
            clip_gradients=solver.clip_gradients,
            iter_size=solver.iter_size,
        )
        # The history of a rule that the rate goes into stays 0 where the rate is 0.
        self.refreshed = [] if solver.type in ("SGD", "Nesterov") else [
            slot.refresh for slot in slots if slot.refresh and solver.weight_decay * slot.decay_mult
        ]  # fmt: skip

    def apply(self, iteration: int, rate: float) -> None:
        """Update ``iteration`` (from 0) at the learning rate ``rate``."""
        for refresh in self.refreshed:
            refresh()
        self.optimiser.set_rate(rate)
        for group in self.optimiser.param_groups:
            group["iteration"] = iteration
        self.optimiser.step()

    def history(self) -> list[FloatArray]:
        """The arrays of ``SolverState.history``."""
        kept = [self.optimiser.history(slot.parameter) for slot in self.slots]
        return [
            slot.to_caffe(tensors[number]).reshape(slot.shape)
            for number in range(len(self.optimiser.type.history))
            for slot, tensors in zip(self.slots, kept, strict=True)
        ]

    def restore(self, history: Sequence[FloatArray], path: str) -> None:
        """Go on with the ``history`` of the solverstate ``path``; ReadError if it does not fit."""
        kinds = len(self.optimiser.type.history)
        if len(history) != kinds * len(self.slots):
            raise ReadError(
                f"{path} has {len(history)} history blobs; the solver {self.solver.type} keeps "
                f"{kinds * len(self.slots)} for this net's {len(self.slots)} learned blobs: "
                "restore it with the solver and the net that wrote it"
            )
        for number in range(kinds):
            for index, slot in enumerate(self.slots):
                array = history[number * len(self.slots) + index]
                if array.shape != slot.shape:
                    raise ReadError(
                        f"{path}: history blob {number * len(self.slots) + index} has the shape "
                        f"{array.shape}, its learned blob {slot.shape}: it is of another net"
                    )
                tensor = self.optimiser.history(slot.parameter)[number]
                value = torch.from_numpy(np.array(slot.from_caffe(array), np.float32))
                tensor.copy_(value.reshape(tensor.shape))
