"""Training as Caffe does it: what its solver does around the loop (solver.cpp)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from caffe2torch.io.write_caffemodel import LayerBlobs
from caffe2torch.training.distributed import ALONE, Team
from caffe2torch.training.log import Log, named_values, number, score_line
from caffe2torch.training.loop import Action, Loop
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


class Engine(Loop):
    """Trains ``net`` as ``solver`` says, and tests ``tests``, which share its learned blobs.

    The nets give passes and gradients (``TrainedNet``); tests, log, update rule and snapshots are
    Caffe's. Of several processes, ``team.leads`` tests, speaks and writes; the others wait.
    ``requested`` is asked before each pass of a test, too.
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
        progress: Callable[[int, int], None] = lambda iteration, end: None,
    ) -> None:
        super().__init__(
            solver.schedule,
            iter_size=solver.iter_size,
            average_loss=solver.average_loss,
            snapshot_interval=solver.snapshot,
            team=team,
            requested=requested,
            progress=progress,
        )
        self.solver, self.net, self.tests, self.log = solver, net, tests, log
        self.rule = Update(net.slots, solver)
        self.scores: list[dict[str, float]] = [{} for _ in tests]
        """The means of each test net's last test, by output."""
        if solver.snapshot and team.leads:
            check_prefix(solver.snapshot_prefix)

    def restore(self, state: SolverState, path: str) -> None:
        """Go on where the solverstate ``path`` was written; the net has its weights already."""
        self.rule.restore(state.history, path)
        self.iteration, self.current_step = state.iteration, state.current_step

    def solve(self) -> None:
        """Train up to ``max_iter`` (Solver::Solve)."""
        solver = self.solver
        self._say(f"Solving {self.net.name}", 287)
        self._say(f"Learning Rate Policy: {solver.schedule.policy}", 288)
        if solver.snapshot_after_train and self.team.leads:
            check_prefix(solver.snapshot_prefix)  # Sooner than after days of training.
        self.step(solver.max_iter - self.iteration)
        if solver.snapshot_after_train and not self.due(solver.snapshot):
            self.snapshot()
        if self.stopped:
            self._say("Optimization stopped early.", 308)
            return
        if self.due(solver.display):
            self.smooth(self.net.forward().loss)
            self._say(f"Iteration {self.iteration}, loss = {number(float(self.smoothed))}", 326)
            self._record("train", {"loss": float(self.smoothed)}, {})
        if self.due(solver.test_interval):
            self.test_all()
        self._say("Optimization Done.", 332)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The learned blobs'."""
        return (slot.parameter for slot in self.net.slots)

    def gathered(self) -> list[nn.Parameter]:
        """Those of blobs that layers share in other forms."""
        return [slot.parameter for slot in self.net.slots if slot.gathered]

    def clear_gradients(self) -> None:
        """Make the gradients of all learned blobs 0."""
        self.net.clear_gradients()

    def before_passes(self) -> None:
        """Test, where a test is due: before the first iteration, too (test_initialization)."""
        solver = self.solver
        if self.due(solver.test_interval) and (self.iteration or solver.test_initialization):
            self.test_all()
            stop = Action.STOP if self.stopped else Action.NONE
            self.stopped = self.agreed(stop) is Action.STOP

    def forward_backward(self) -> Tensor:
        """One pass on the net's next batch."""
        self._last = self.net.forward_backward()
        return self._last.loss

    def before_update(self) -> None:
        """Show the iteration, where a display is due."""
        if self.due(self.solver.display):
            self._display(self._last)

    def update(self) -> None:
        """Update the learned blobs by the solver's rule."""
        self.rule.apply(self.iteration, self.rate)

    def why_not_finite(self) -> str:
        """Where in the last pass the first value that is not finite came from."""
        why = self.net.why_not_finite()
        return f"{why}; correct the data, the weights or the fillers"

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
        state = SolverState(self.iteration, self.current_step, self.rule.history())
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

    def _display(self, last: Pass) -> None:
        """The log of an iteration: loss, speed, every value of every output, rate."""
        loss = float(self.smoothed)
        seconds, iterations = self.lapse()
        speed = iterations / (seconds or 1)
        self._say(
            f"Iteration {self.iteration} ({number(speed)} iter/s, {number(seconds)}s/"
            f"{self.solver.display} iters), loss = {number(loss)}",
            239,
        )
        shown = [
            (output.name, value, output.weight)
            for output in last.outputs
            for value in output.values.tolist()
        ]
        for index, (name, value, weight) in enumerate(shown):
            self._say(score_line("Train", index, name, value, weight), 258)
        rate = self.next_rate()
        self._say(f"Iteration {self.iteration}, lr = {number(rate)}", 105, "sgd_solver.cpp")
        values = named_values([(name, value) for name, value, _ in shown])
        self._record("train", {"loss": loss, "lr": rate, "iter_per_s": speed}, values)

    def _say(self, text: str, line: int, file: str = "solver.cpp") -> None:
        if self.team.leads:
            self.log.line(text, f"{file}:{line}")

    def _record(self, kind: str, values: dict[str, float], outputs: dict[str, float]) -> None:
        if self.team.leads:
            self.log.record(self.iteration, kind, values, outputs)
