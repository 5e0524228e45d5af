"""Caffe's solvers for programs: ``caffe.SGDSolver(...).step(1)`` (_caffe.cpp, solver.cpp).

The loop, the update rules and the snapshots are those of ``caffe2torch train``; the nets are
pycaffe's, so that a program sees and changes blobs, weights and gradients at every step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from caffe2torch.io.files import text_of
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import Message
from caffe2torch.io.write_caffemodel import LayerBlobs
from caffe2torch.pycaffe import files, mode
from caffe2torch.pycaffe.blob import Blob, NetVec
from caffe2torch.pycaffe.core_net import aborting
from caffe2torch.pycaffe.net import Net
from caffe2torch.training.engine import Engine, Output, Pass
from caffe2torch.training.log import Log
from caffe2torch.training.snapshot import learned_net, read_state
from caffe2torch.training.solver import NetOf, solver_of
from caffe2torch.training.update import Slot

Callback = Callable[[], object]


class _Tested:
    """A net of pycaffe as an engine tests it: with the weights of the one that is trained."""

    def __init__(self, net: Net, trained: Net | None = None) -> None:
        self.net, self.trained = net, trained
        self.last = len(net.layers) - 1
        weights = net.blob_loss_weights
        self.weights = [(name, weights[name]) for name in net.outputs]
        """The outputs, each with its weight in the loss."""

    def forward(self) -> Pass:
        """One pass, and what its outputs are."""
        if self.trained is not None:
            self.net.share_with(self.trained)
        return self._pass(self.net._forward(0, self.last))

    def _pass(self, loss: float) -> Pass:
        outputs = [
            Output(name, torch.from_numpy(self.net.blobs[name].data.flatten()), weight)
            for name, weight in self.weights
        ]
        return Pass(torch.tensor(loss), outputs)


class _Trained(_Tested):
    """A net of pycaffe as an engine trains it: its learned blobs are updated in place."""

    def __init__(self, net: Net) -> None:
        super().__init__(net)
        self.name = net._running.graph.name
        self.learned: list[Blob] = []
        slots = []
        blobs = {
            (id(step.node), index): blob
            for step in net._steps
            for index, blob in enumerate(step.blobs)
        }
        for known in net._running.learned:
            blob = blobs[id(known.node), known.index]
            parameter = nn.Parameter(torch.zeros(known.shape))
            self.learned.append(blob)
            slots.append(Slot(known.shape, known.lr_mult, known.decay_mult, parameter))
        self.slots: Sequence[Slot] = slots

    def bind(self) -> None:
        """Have the update work on the memory that the blobs have now."""
        for blob, slot in zip(self.learned, self.slots, strict=True):
            blob._data.changes += 1
            slot.parameter.data = blob._data.view(blob._shape)
            slot.parameter.grad = blob._diff.view(blob._shape)

    def clear_gradients(self) -> None:
        """Set the diffs of the learned blobs to 0."""
        self.net.clear_param_diffs()

    def forward_backward(self) -> Pass:
        """One pass forward and backward."""
        loss = self.net._forward(0, self.last)
        self.net._backward(self.last, 0)
        self.bind()
        return self._pass(loss)

    def layers(self) -> tuple[Sequence[LayerBlobs], Sequence[Sequence[int]]]:
        """What a snapshot holds."""
        return files.layers_of(self.net._steps)

    def why_not_finite(self) -> str:
        """The first layer of the last pass with a top that is not finite."""
        for step in self.net._steps:
            if not all(bool(top._data.view(top._shape).isfinite().all()) for top in step.tops):
                return f"layer {step.name!r} ({step.type}) is the first whose top is not finite"
        return "no layer's top alone is not finite"


class SolverParameter:
    """What a program sees of the solver's file. ``base_lr`` may be set."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def base_lr(self) -> float:
        """The rate that the policy starts from; a new one holds from the next update on."""
        return self._engine.schedule.base_lr

    @base_lr.setter
    def base_lr(self, rate: float) -> None:
        self._engine.schedule = replace(self._engine.schedule, base_lr=float(rate))

    @property
    def max_iter(self) -> int:
        """The iteration at which ``solve`` ends."""
        return self._engine.solver.max_iter

    @property
    def display(self) -> int:
        """Every how many iterations the loss is written to the log; 0 is never."""
        return self._engine.solver.display

    @property
    def layer_wise_reduce(self) -> bool:
        """Whether gradients would be averaged layer by layer: the file's, without effect."""
        return self._engine.solver.layer_wise_reduce


class Solver:
    """Trains the net of a solver file, and tests its test nets."""

    _type: str | None = None
    """The update rule, whatever type the file has; None: the file's."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        if len(arguments) != 1 or keywords or not isinstance(arguments[0], (str, bytes)):
            raise TypeError(
                f"{type(self).__name__} takes one argument, the path of the solver file as str "
                f"or bytes, not {arguments} {keywords or ''}"
            )
        path = os.fsdecode(arguments[0])
        self._start(_read(path), path)

    def _start(self, proto: Message, path: str) -> None:
        if self._type is not None:
            proto.ClearField("solver_type")
            proto.type = self._type
        if proto.random_seed >= 0:
            mode.set_random_seed(proto.random_seed)
        with aborting():
            solver = solver_of(proto, path)
            self._net = _net(solver.train, solver.weights)
            self._trained = _Trained(self._net)
            self._tests = [_net(test, solver.weights) for test in solver.tests]
            self._engine = Engine(
                solver,
                self._trained,
                [_Tested(test, self._net) for test in self._tests],
                log=Log(_write),
            )

    @property
    def net(self) -> Net:
        """The net that is trained."""
        return self._net

    @property
    def test_nets(self) -> NetVec:
        """The test nets; they have the weights of ``net`` once they have been tested."""
        return NetVec(self._tests)

    @property
    def iter(self) -> int:
        """The number of updates so far."""
        return self._engine.iteration

    @property
    def lr(self) -> float:
        """The rate of the next update, before each blob's lr_mult.

        Reading it counts a drop of the rate that is due, as an update does: with ``multistep``,
        where several are due at once, each reading is one further (SGDSolver::GetLearningRate).
        """
        return float(torch.tensor(self._engine.take_rate()))

    @property
    def param(self) -> SolverParameter:
        """Numbers of the solver's file."""
        return SolverParameter(self._engine)

    def step(self, iterations: int) -> None:
        """Train for a number of iterations; 0 and less do nothing."""
        if not isinstance(iterations, int):
            raise TypeError(f"step takes the number of iterations, not {iterations!r}")
        with aborting():
            self._engine.step(iterations)

    def solve(self, resume_file: Any = None) -> None:
        """Train up to ``max_iter``, from a solverstate if one is given; snapshot at the end."""
        if resume_file is not None:
            self.restore(resume_file)
        with aborting():
            self._engine.solve()

    def restore(self, solverstate: Any) -> None:
        """Go on from a solverstate: its iteration and history, and the weights it belongs to."""
        if not isinstance(solverstate, (str, bytes)):
            raise TypeError(f"restore takes a path as str or bytes, not {solverstate!r}")
        path = os.fsdecode(solverstate)
        with aborting():
            state = read_state(path)
            self._net.copy_from(str(learned_net(state, path)))
            self._trained.bind()
            self._engine.restore(state, path)

    def snapshot(self) -> None:
        """Write ``PREFIX_iter_N.caffemodel`` and ``.solverstate``."""
        with aborting():
            self._engine.snapshot()

    def apply_update(self) -> None:
        """Update the weights by the diffs that there are, which are the steps taken afterwards."""
        self._trained.bind()
        with aborting():
            self._engine.apply_update()
        self._engine.iteration += 1

    def add_callback(self, on_start: Callback, on_gradients_ready: Callback) -> None:
        """Call both at every iteration: before its passes, and when it has its gradients."""
        self._engine.hooks.on_start.append(on_start)
        self._engine.hooks.on_gradients_ready.append(on_gradients_ready)

    def share_weights(self, net: Net) -> None:
        """Have ``net`` use the memory of the learned blobs of this solver's net."""
        net.share_with(self._net)


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum, whatever type the file names."""

    _type: str | None = "SGD"


class NesterovSolver(SGDSolver):
    """Nesterov's accelerated gradient."""

    _type = "Nesterov"


class AdaGradSolver(SGDSolver):
    """AdaGrad."""

    _type = "AdaGrad"


class RMSPropSolver(SGDSolver):
    """RMSProp."""

    _type = "RMSProp"


class AdaDeltaSolver(SGDSolver):
    """AdaDelta."""

    _type = "AdaDelta"


class AdamSolver(SGDSolver):
    """Adam."""

    _type = "Adam"


_OF_TYPE: dict[str, type[Solver]] = {
    "SGD": SGDSolver,
    "Nesterov": NesterovSolver,
    "AdaGrad": AdaGradSolver,
    "RMSProp": RMSPropSolver,
    "AdaDelta": AdaDeltaSolver,
    "Adam": AdamSolver,
}


def get_solver(solver_file: Any) -> Solver:
    """The solver of a file, of the class that its type names."""
    if not isinstance(solver_file, (str, bytes)):
        raise TypeError(f"get_solver takes a path as str or bytes, not {solver_file!r}")
    path = os.fsdecode(solver_file)
    proto = _read(path)
    with aborting():
        type_name = solver_of(proto, path).type
    made: Solver = _OF_TYPE[type_name].__new__(_OF_TYPE[type_name])
    made._start(proto, path)
    return made


def _read(path: str) -> Message:
    files.require(path)
    with aborting():
        return parse_prototxt(text_of(Path(path).read_bytes(), path), path, "SolverParameter")


def _net(source: NetOf, weights: Sequence[str]) -> Net:
    net = Net._of(source.net, source.state, source.folder)
    for path in weights:
        net.copy_from(path)
    return net


def _write(line: str) -> None:
    """Glog's default: to stderr, unless the program asks for less."""
    if os.environ.get("GLOG_minloglevel", "0") == "0":  # noqa: SIM112  # glog's own spelling
        print(line, file=sys.stderr)
