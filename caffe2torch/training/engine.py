"""The loop of a solver: tests, passes, log, update, snapshots, in Caffe's order (solver.cpp)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import torch
from torch import Tensor

from caffe2torch.errors import NetError
from caffe2torch.io.write_caffemodel import LayerBlobs
from caffe2torch.training.distributed import ALONE, Team
from caffe2torch.training.log import Log, named_values, number, score_line
from caffe2torch.training.snapshot import SolverState, check_prefix, write_snapshot
from caffe2torch.training.solver import Solver
from caffe2torch.training.update import Slot, Update


@dataclass(frozen=True)
class Output:
    """An output blob of a pass: its values, flat, and its weight in the loss."""

    name: str
    values: Tensor
    weight: float


@dataclass(frozen=True)
class Pass:
    """What a pass gives: the sum of all losses with their weights, and the output blobs."""

    loss: Tensor
    outputs: Sequence[Output]


class TestedNet(Protocol):
    """What an engine needs of a net that it tests."""

    def forward(self) -> Pass:
        """One pass on the next batch, without gradients."""


class TrainedNet(TestedNet, Protocol):
    """What an engine needs of a net that it trains."""

    name: str
    slots: Sequence[Slot]

    def clear_gradients(self) -> None:
        """Make the gradients of all learned blobs 0."""

    def forward_backward(self) -> Pass:
        """One pass on the next batch, whose gradients are added to those that there are."""

    def layers(self) -> tuple[Sequence[LayerBlobs], Sequence[Sequence[int]]]:
        """What a snapshot holds, see ``write_snapshot``."""

    def why_not_finite(self) -> str:
        """Where in the last pass the first value that is not finite came from."""


class Action(Enum):
    """What may be asked of a running solver from outside."""

    NONE = 0
    SNAPSHOT = 1
    STOP = 2


@dataclass
class Hooks:
    """Functions that are called at each iteration: before its passes, and with its gradients."""

    on_start: list[Callable[[], object]] = field(default_factory=list)
    on_gradients_ready: list[Callable[[], object]] = field(default_factory=list)


class DivergedError(NetError):
    """The loss is no number from the start."""


class Engine:
    """Trains ``net`` as ``solver`` says, and tests ``tests``, which share its learned blobs.

    ``iteration`` counts the updates so far. ``requested`` is asked after each update, and
    before each pass of a test. ``progress`` is called with the iteration after each update.
    The nets give passes and gradients (``TrainedNet``); all else is done here: schedule,
    accumulation, averages, log, tests, update, snapshots. Of several processes, ``team.leads``
    tests, speaks and writes; the others wait.
    """

    def __init__(
        self,
        solver: Solver,
        net: TrainedNet,
        tests: Sequence[TestedNet] = (),
        *,
        log: Log,
        team: Team = ALONE,
        requested: Callable[[], Action] = lambda: Action.NONE,
        progress: Callable[[int], None] = lambda iteration: None,
    ) -> None:
        self.solver, self.net, self.tests = solver, net, tests
        self.log, self.team, self.requested, self.progress = log, team, requested, progress
        self.update = Update(net.slots, solver)
        self.iteration = self.current_step = 0
        self.rate = 0.0
        self.stopped = self._begun = False
        self.hooks = Hooks()
        self.scores: list[dict[str, float]] = [{} for _ in tests]
        """The means of each test net's last test, by output."""
        self.smoothed = torch.zeros(())
        self._losses: list[Tensor] = []
        self._clock, self._displayed = time.perf_counter(), 0
        if solver.snapshot and team.leads:
            check_prefix(solver.snapshot_prefix)

    def restore(self, state: SolverState, path: str) -> None:
        """Go on where the solverstate ``path`` was written; the net has its weights already."""
        self.update.restore(state.history, path)
        self.iteration, self.current_step = state.iteration, state.current_step

    def solve(self) -> None:
        """Train up to ``max_iter`` (Solver::Solve)."""
        solver = self.solver
        self._say(f"Solving {self.net.name}", 287)
        self._say(f"Learning Rate Policy: {solver.schedule.policy}", 288)
        self.stopped = False
        start = self.iteration
        if solver.snapshot_after_train and self.team.leads:
            check_prefix(solver.snapshot_prefix)  # Sooner than after days of training.
        self.step(solver.max_iter - self.iteration)
        if solver.snapshot_after_train and not (
            solver.snapshot and self.iteration % solver.snapshot == 0
        ):
            self.snapshot()
        if self.stopped:
            self._say("Optimization stopped early.", 308)
            return
        if solver.display and self.iteration % solver.display == 0:
            self._smooth(self.net.forward().loss, start)
            self._say(f"Iteration {self.iteration}, loss = {number(float(self.smoothed))}", 326)
            self._record("train", {"loss": float(self.smoothed)}, {})
        if solver.test_interval and self.iteration % solver.test_interval == 0:
            self.test_all()
        self._say("Optimization Done.", 332)

    def step(self, iterations: int) -> None:
        """Train for a number of iterations (Solver::Step)."""
        solver = self.solver
        start, stop = self.iteration, self.iteration + iterations
        self._losses, self.smoothed = [], torch.zeros(())
        self._clock, self._displayed = time.perf_counter(), self.iteration
        while self.iteration < stop:
            self.net.clear_gradients()
            first = self.iteration == 0 and not solver.test_initialization
            if solver.test_interval and self.iteration % solver.test_interval == 0 and not first:
                self.test_all()
                if self._agreed(Action.STOP if self.stopped else Action.NONE) is Action.STOP:
                    self.stopped = True
                    break
            for hook in self.hooks.on_start:
                hook()
            passes = [self.net.forward_backward() for _ in range(solver.iter_size)]
            loss = torch.stack([one.loss for one in passes]).sum() / solver.iter_size
            if not self._begun:
                self._check_loss(loss)
            self._smooth(loss, start)
            display = bool(solver.display) and self.iteration % solver.display == 0
            if display:
                self._display(passes[-1])
            for hook in self.hooks.on_gradients_ready:
                hook()
            self.apply_update(display)
            self.iteration += 1
            self.progress(self.iteration)
            request = self._agreed(self.requested())
            due = solver.snapshot and self.iteration % solver.snapshot == 0
            if due or request is Action.SNAPSHOT:
                self.snapshot()
            if request is Action.STOP:
                self.stopped = True
                break

    def apply_update(self, display: bool = False) -> None:
        """One update from the gradients that there are (SGDSolver::ApplyUpdate)."""
        schedule = self.solver.schedule
        self.current_step = schedule.advance(self.iteration, self.current_step)
        self.rate = schedule.rate(self.iteration, self.current_step)
        if display:
            self._say(
                f"Iteration {self.iteration}, lr = {number(self.rate)}", 105, "sgd_solver.cpp"
            )
        self.team.average(slot.parameter for slot in self.net.slots)
        self.update.apply(self.iteration, self.rate)

    def test_all(self) -> None:
        """Test every net, unless a stop is asked for in between (Solver::TestAll)."""
        if self.team.leads:
            for index in range(len(self.tests)):
                if not self.stopped:
                    self._test(index)

    def snapshot(self) -> None:
        """Write the weights and the solver's state (Solver::Snapshot)."""
        if not self.team.leads:
            return
        state = SolverState(self.iteration, self.current_step, self.update.history())
        solver = self.solver
        names = write_snapshot(
            solver.snapshot_prefix, state, self.net.name, *self.net.layers(), solver.snapshot_format
        )
        kind = "HDF5" if solver.snapshot_format == "HDF5" else "binary proto"
        self._say(f"Snapshotting to {kind} file {names[0]}", 464)
        self._say(f"Snapshotting solver state to {kind} file {names[1]}", 284, "sgd_solver.cpp")

    def _test(self, index: int) -> None:
        """Test net ``index``: the mean of each value of each output over test_iter passes."""
        solver, count = self.solver, self.solver.test_iter[index]
        self._say(f"Iteration {self.iteration}, Testing net (#{index})", 347)
        sums: list[Tensor] = []
        outputs: Sequence[Output] = ()
        loss = torch.zeros(())
        for _ in range(count):
            while (request := self.requested()) is not Action.NONE:
                if request is Action.SNAPSHOT:
                    self.snapshot()
                else:
                    self.stopped = True
                    self._say("Test interrupted.", 381)
                    return
            done = self.tests[index].forward()
            loss = loss.to(done.loss.device) + done.loss
            outputs = done.outputs
            values = [output.values for output in outputs]
            sums = [s + v for s, v in zip(sums, values, strict=True)] if sums else values
        computed: dict[str, float] = {}
        if solver.test_compute_loss and count > 0:
            computed["loss"] = float(loss / count)
            self._say(f"Test loss: {number(computed['loss'])}", 386)
        means = [
            (output.name, value, output.weight)
            for output, total in zip(outputs, sums, strict=True)
            for value in (total / count).tolist()
        ]
        for place, (name, value, weight) in enumerate(means):
            self._say(score_line("Test", place, name, value, weight), 414)
        self.scores[index] = named_values([(name, value) for name, value, _ in means])
        self._record(f"test {index}", computed, self.scores[index])

    def _check_loss(self, loss: Tensor) -> None:
        """Raise DivergedError if the first loss of all is no number."""
        if not bool(loss.isfinite()):
            raise DivergedError(
                f"the loss is {float(loss)} at iteration {self.iteration}, before any update: "
                f"{self.net.why_not_finite()}; correct the data, the weights or the fillers"
            )
        self._begun = True

    def _smooth(self, loss: Tensor, start: int) -> None:
        """Take a loss into the mean over the last ``average_loss`` ones, in Caffe's float32."""
        size = self.solver.average_loss
        if len(self._losses) < size:
            self._losses.append(loss)
            count = len(self._losses)
            self.smoothed = (self.smoothed.to(loss.device) * (count - 1) + loss) / count
        else:
            place = (self.iteration - start) % size
            self.smoothed = self.smoothed + (loss - self._losses[place]) / size
            self._losses[place] = loss

    def _display(self, last: Pass) -> None:
        """The log of an iteration: loss, speed and every value of every output."""
        loss = float(self.smoothed)
        now = time.perf_counter()
        lapse = now - self._clock
        speed = (self.iteration - self._displayed) / (lapse or 1)
        self._say(
            f"Iteration {self.iteration} ({number(speed)} iter/s, {number(lapse)}s/"
            f"{self.solver.display} iters), loss = {number(loss)}",
            239,
        )
        self._clock, self._displayed = now, self.iteration
        shown = [
            (output.name, value, output.weight)
            for output in last.outputs
            for value in output.values.tolist()
        ]
        for index, (name, value, weight) in enumerate(shown):
            self._say(score_line("Train", index, name, value, weight), 258)
        schedule = self.solver.schedule
        step = schedule.advance(self.iteration, self.current_step)
        rate = schedule.rate(self.iteration, step)
        values = named_values([(name, value) for name, value, _ in shown])
        self._record("train", {"loss": loss, "lr": rate, "iter_per_s": speed}, values)

    def _agreed(self, request: Action) -> Action:
        """The strongest request that any process has."""
        return Action(self.team.largest(request.value))

    def _say(self, text: str, line: int, file: str = "solver.cpp") -> None:
        if self.team.leads:
            self.log.line(text, f"{file}:{line}")

    def _record(self, kind: str, values: dict[str, float], outputs: dict[str, float]) -> None:
        if self.team.leads:
            self.log.record(self.iteration, kind, values, outputs)
