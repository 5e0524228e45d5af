"""The loop of every training: passes, update, and what happens around them (Caffe: solver.cpp)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn

from caffe2torch.errors import NetError
from caffe2torch.training.averaging import Averaging
from caffe2torch.training.distributed import ALONE, Team
from caffe2torch.training.rules import Schedule


class Action(Enum):
    """What may be asked of a running training from outside; the larger is the stronger."""

    NONE = 0
    SNAPSHOT = 1
    STOP = 2


@dataclass
class Hooks:
    """Functions that are called at each iteration: before its passes, and with its gradients."""

    on_start: list[Callable[[], object]] = field(default_factory=list)
    on_gradients_ready: list[Callable[[], object]] = field(default_factory=list)


class DivergedError(NetError):
    """The loss is no number."""


class Loop(ABC):
    """Iterations of a training, each in Caffe's order (Solver::Step).

    ``before_passes``; ``iter_size`` passes, whose gradients add up; their mean over all processes,
    and that of the losses; the method ``before_update``; the rate, and ``update``; the
    method ``after_update``; ``snapshot`` every ``snapshot_interval`` iterations (0 is never), or if
    it is asked for. What is trained, and on what, a subclass says by these methods. All processes
    of ``team`` call them alike, and stop together.

    ``iteration`` counts the updates so far, ``end`` is where ``step`` stops. ``current_step``
    counts the drops of the rate, see ``Schedule.advance``; ``rate`` is that of the last update.
    ``smoothed`` is the mean loss of the last ``average_loss`` iterations. ``requested`` is asked
    after each update; ``progress`` gets ``iteration`` and ``end`` then, in the process that leads.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        iter_size: int = 1,
        average_loss: int = 1,
        snapshot_interval: int = 0,
        team: Team = ALONE,
        requested: Callable[[], Action] = lambda: Action.NONE,
        progress: Callable[[int, int], None] = lambda iteration, end: None,
    ) -> None:
        self.schedule, self.iter_size, self.average_loss = schedule, iter_size, average_loss
        self.snapshot_interval, self.team = snapshot_interval, team
        self.requested, self.progress = requested, progress
        self.iteration = self.end = self.current_step = 0
        self.rate = 0.0
        self.stopped = False
        self.hooks = Hooks()
        self.smoothed = torch.zeros(())
        self._losses: list[Tensor] = []
        self._checked = False
        self._start = self._noted = 0
        self._clock = time.perf_counter()

    @abstractmethod
    def parameters(self) -> Iterable[nn.Parameter]:
        """What is trained, in the same order in all processes."""

    def gathered(self) -> Collection[nn.Parameter]:
        """Those whose gradients are complete only after a pass, not within its backward part."""
        return ()

    @abstractmethod
    def clear_gradients(self) -> None:
        """Make all gradients 0."""

    @abstractmethod
    def forward_backward(self) -> Tensor:
        """One pass on the next batch, whose gradients are added; its loss, without a graph.

        A loss of several numbers is averaged number by number.
        """

    @abstractmethod
    def update(self) -> None:
        """Change what is trained by its gradients, at the learning rate ``rate``."""

    @abstractmethod
    def snapshot(self) -> None:
        """Write all that a run needs to go on from here."""

    @abstractmethod
    def why_not_finite(self) -> str:
        """Why the first loss of all is no number, and what to do."""

    def before_passes(self) -> None:
        """What is due before the passes of an iteration; it may set ``stopped``."""
        return

    def before_update(self) -> None:
        """What is due between the passes of an iteration and its update."""
        return

    def after_update(self) -> None:
        """What is due when ``iteration`` updates have been made."""
        return

    def step(self, iterations: int) -> None:
        """Train for a number of iterations, or until a stop is asked for."""
        self.end = self.iteration + iterations
        self.stopped = False
        self._losses, self.smoothed, self._start = [], torch.zeros(()), self.iteration
        self._clock, self._noted = time.perf_counter(), self.iteration
        averaging = Averaging(self.team, self.parameters(), self.gathered())
        while self.iteration < self.end:
            self.clear_gradients()
            self.before_passes()
            if self.stopped:
                break
            for hook in self.hooks.on_start:
                hook()
            losses = [self.forward_backward() for _ in range(self.iter_size - 1)]
            with averaging.watching():
                losses.append(self.forward_backward())
            averaging.finish()
            loss = torch.stack(losses).sum(0) / self.iter_size
            self._check(loss)
            self.smooth(loss)
            self.before_update()
            for hook in self.hooks.on_gradients_ready:
                hook()
            self.apply_update()
            self.iteration += 1
            if self.team.leads:
                self.progress(self.iteration, self.end)
            self.after_update()
            request = self.agreed(self.requested())
            if self.due(self.snapshot_interval) or request is Action.SNAPSHOT:
                self.snapshot()
            if request is Action.STOP:
                self.stopped = True
                break

    def apply_update(self) -> None:
        """One update from the gradients that there are (SGDSolver::ApplyUpdate)."""
        self.rate = self.take_rate()
        self.update()

    def take_rate(self) -> float:
        """The learning rate of this iteration; counts a drop (SGDSolver::GetLearningRate)."""
        self.current_step = self.schedule.advance(self.iteration, self.current_step)
        return self.schedule.rate(self.iteration, self.current_step)

    def next_rate(self) -> float:
        """The learning rate of the next update."""
        drops = self.schedule.advance(self.iteration, self.current_step)
        return self.schedule.rate(self.iteration, drops)

    def due(self, interval: int) -> bool:
        """Whether what happens every ``interval`` iterations, 0 being never, happens now."""
        return bool(interval) and self.iteration % interval == 0

    def agreed(self, request: Action) -> Action:
        """The strongest request that any process has."""
        return Action(self.team.largest(request.value))

    def smooth(self, loss: Tensor) -> None:
        """Take a loss into ``smoothed``, in Caffe's order of float32 (UpdateSmoothedLoss)."""
        size = self.average_loss
        if len(self._losses) < size:
            self._losses.append(loss)
            count = len(self._losses)
            self.smoothed = (self.smoothed.to(loss.device) * (count - 1) + loss) / count
        else:
            place = (self.iteration - self._start) % size
            self.smoothed = self.smoothed + (loss - self._losses[place]) / size
            self._losses[place] = loss

    def lapse(self) -> tuple[float, int]:
        """Seconds and iterations since this was called last, or since ``step`` began."""
        now = time.perf_counter()
        passed = now - self._clock, self.iteration - self._noted
        self._clock, self._noted = now, self.iteration
        return passed

    def _check(self, loss: Tensor) -> None:
        """Raise DivergedError if the first loss of all is no number."""
        if not self._checked and not bool(loss.isfinite().all()):
            raise DivergedError(
                f"the loss is {float(loss.flatten()[0])} at iteration {self.iteration}, before any "
                f"update: {self.why_not_finite()}"
            )
        self._checked = True
