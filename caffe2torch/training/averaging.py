"""The mean of the gradients over all processes, while the backward pass goes on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor, nn

from caffe2torch.training.distributed import Team

FIRST_BYTES, BYTES = 1 << 20, 25 << 20
"""A message's size from which the next one begins. The first is small, so that the network has work
soon; DistributedDataParallel has the same sizes."""


class _Message:
    """Gradients of one device and type that travel together, in one array."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.array = parameters[0].new_zeros(sum(p.numel() for p in parameters))
        parts = self.array.split([p.numel() for p in parameters])  # type: ignore[no-untyped-call]  # untyped in torch
        # In the parameter's order of memory, which the update then finds in both.
        self.views = [
            part.as_strided(p.shape, p.stride(), part.storage_offset())
            for part, p in zip(parts, parameters, strict=True)
        ]
        self.missing: set[nn.Parameter] = set()
        self.work: dist.Work | None = None

    def send(self) -> None:
        """Put the gradients into the array, 0 for one that is not there, and send it."""
        for parameter, view in zip(self.parameters, self.views, strict=True):
            if parameter.grad is None:
                view.zero_()
            else:
                view.copy_(parameter.grad)
            parameter.grad = view
        self.work = dist.all_reduce(self.array, async_op=True)

    def receive(self, world: int) -> None:
        """Wait for the sum, and make a mean of it."""
        assert self.work is not None
        self.work.wait()
        self.array.div_(world)
        self.work = None


class Averaging:
    """Makes each gradient the mean over all processes of a team (Caffe: NCCL::on_gradients_ready).

    With a batch_size of its own for each process the result is that of one process with all of
    them in one batch. A gradient that is not there counts as 0. Messages are sent in the same
    order by all processes, whichever parameters their passes reach: the last layer's first, each
    as soon as its gradients and the messages before it are complete.

    Args:
        team: all processes.
        parameters: what is trained, in the same order in all processes.
        gathered: those among them to whose gradients something is added after a backward pass;
            they are sent by ``finish``.
    """

    def __init__(
        self,
        team: Team,
        parameters: Iterable[nn.Parameter],
        gathered: Collection[nn.Parameter] = (),
    ) -> None:
        self.world = team.world
        self.messages: list[_Message] = []
        self._sent = 0
        self._message_of: dict[nn.Parameter, _Message] = {}
        if team.world == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        late = set(gathered)
        self.messages = [
            *map(_Message, _parted(p for p in reversed(trained) if p not in late)),
            *map(_Message, _parted(p for p in reversed(trained) if p in late)),
        ]
        self._late = late
        self._message_of = {p: message for message in self.messages for p in message.parameters}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Send what becomes complete in the backward passes of this block, an iteration's last."""
        for message in self.messages:
            message.missing = set(message.parameters)
        hooks = [
            p.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]  # as above
            for p in self._message_of
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish(self) -> None:
        """Send what is left and wait for all of it; each ``grad`` is the mean afterwards."""
        while self._sent < len(self.messages):
            self._send_next()
        for message in self.messages:
            message.receive(self.world)
        self._sent = 0

    def _arrived(self, parameter: Tensor) -> None:
        assert isinstance(parameter, nn.Parameter)
        if parameter not in self._late:
            self._message_of[parameter].missing.discard(parameter)
        while self._sent < len(self.messages) and not self.messages[self._sent].missing:
            self._send_next()

    def _send_next(self) -> None:
        self.messages[self._sent].send()
        self._sent += 1


def _parted(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters in the order given, a list a message."""
    parts: list[list[nn.Parameter]] = []
    kind, room = None, 0
    for parameter in parameters:
        if room <= 0 or (parameter.device, parameter.dtype) != kind:
            kind, room = (parameter.device, parameter.dtype), BYTES if parts else FIRST_BYTES
            parts.append([])
        parts[-1].append(parameter)
        room -= parameter.numel() * parameter.element_size()
    return parts
