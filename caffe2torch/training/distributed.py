"""What differs when several processes train one model; with one process all of it is a no-op."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from caffe2torch.errors import Caffe2TorchError, first_line
from caffe2torch.training.allocator import keep_freed_memory


@dataclass(frozen=True)
class Team:
    """This process's place among the ``world`` processes of a job, and its device."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            tensor = tensor.to(self.device)
            dist.all_reduce(tensor)
        return tensor

    def largest(self, number: int) -> int:
        """The largest of the numbers of all processes. It does not wait for a GPU."""
        if self.world == 1:
            return number
        tensor = torch.tensor(number)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


ALONE = Team(0, 1, torch.device("cpu"))
"""A process that shares nothing out."""


@contextmanager
def join_team(device: str, index: int = 0) -> Iterator[Team]:
    """Join the processes that ``torchrun`` started, over NCCL on GPUs and gloo elsewhere.

    ``device`` is "auto", "cpu" or "cuda". Without torchrun the team is this process alone, on
    the GPU ``index``. Where a CPU computes, the process keeps the memory that it frees from now
    on. Raises Caffe2TorchError where another process of the team has ended.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", index)))
    if chosen.type == "cpu":
        keep_freed_memory()
    if world == 1:
        yield Team(0, 1, chosen)
        return
    # The others wait while one tests, however long that takes.
    patience = timedelta(days=1)
    store, rank, world = next(rendezvous("env://", timeout=patience))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo",
        store=PrefixStore(_attempt(), store),
        rank=rank,
        world_size=world,
        timeout=patience,
    )
    try:
        yield Team(dist.get_rank(), world, chosen)
    except RuntimeError as error:
        # NCCL's errors have a class of their own; gloo's are told by its name.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise Caffe2TorchError(
            f"process {rank} of {world} has lost another one, whose own message tells why it ended "
            f"({first_line(error)})"
        ) from error
    finally:
        dist.destroy_process_group()


def _attempt() -> str:
    """A name for this start of the job, which the addresses of its processes are kept under.

    PyTorch keeps them where those of the processes that torchrun ended remain (since 2.4, see
    torch/distributed/rendezvous.py: _create_c10d_store), so that some would be called in vain, for
    as long as they wait for each other. On one machine the restarts are counted alike.
    """
    get = os.environ.get
    if (
        get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        and get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
        and get("GROUP_WORLD_SIZE", "1") != "1"
    ):
        raise Caffe2TorchError(
            "on several machines torchrun --max-restarts would leave the addresses of ended "
            "processes behind: use --rdzv-backend c10d, and set the environment variable "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE to 1 for each torchrun"
        )
    return f"start {get('TORCHELASTIC_RESTART_COUNT', '0')}"


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one.

    Raises Caffe2TorchError if there is no such GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        if not torch.cuda.is_available():
            raise Caffe2TorchError("device 'cuda' is not there: this torch sees no GPU; use cpu")
        if local_rank >= torch.cuda.device_count():
            raise Caffe2TorchError(
                f"GPU {local_rank} is not there: this torch sees {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return torch.device(name)
