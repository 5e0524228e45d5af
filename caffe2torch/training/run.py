"""A whole training run, as ``caffe2torch train`` does it, top to bottom."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from caffe2torch.errors import NetError
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.passes.draft import BlobSource, State
from caffe2torch.pipeline import blob_source
from caffe2torch.training.backward import check_gradients, check_weights
from caffe2torch.training.distributed import Team, choose_device, join_team
from caffe2torch.training.engine import Engine
from caffe2torch.training.fed import FedNet
from caffe2torch.training.log import Log
from caffe2torch.training.loop import Action
from caffe2torch.training.net import TrainingNet, open_net
from caffe2torch.training.precision import PLAIN, Arithmetic
from caffe2torch.training.snapshot import learned_net, newest_state, read_state
from caffe2torch.training.solver import NetOf, Solver, read_solver, warn_idle


def train(
    path: str | os.PathLike[str],
    *,
    log: Log,
    weights: Sequence[str] = (),
    snapshot: str | None = None,
    resume_data: bool = False,
    resume: bool = False,
    device: str = "auto",
    workers: int | None = None,
    arithmetic: Arithmetic = PLAIN,
    level: int = 0,
    stages: tuple[str, ...] = (),
    requested: Callable[[], Action] = lambda: Action.NONE,
    progress: Callable[[int, int], None] = lambda iteration, end: None,
) -> Engine:
    """Train the net of a solver.prototxt up to its max_iter; return the engine at its end.

    Args:
        path: the solver.
        log: where the run reports to.
        weights: files of weights to begin with, in the place of those that the solver names.
        snapshot: a solverstate to go on from, with the weights that it names.
        resume_data: go on with the data after the last item before the snapshot. Without it
            they begin again, as in Caffe. On a CPU the run then ends in the same bits as one
            never interrupted, but for layers that remember the last pass (LSTM, RNN): they
            begin anew, as no snapshot has their state.
        resume: go on from the newest solverstate that this solver has written, and from its place
            in the data, once there is one; ``weights`` and ``snapshot`` are for the first start.
        device: "auto" (the solver's own, or the CPU where there is no GPU), "cpu" or "cuda".
        workers: processes that prepare the batches of each data layer; None leaves it to the layer,
            see ``Source.workers``.
        arithmetic: how the layers compute.
        level: of the training net's state.
        stages: of the training net's state.
        requested: asked for what to do after each update.
        progress: gets the iteration and the last one after each update.

    Raises:
        Caffe2TorchError: Caffe would not train this, a file is missing, or there is nothing to
            learn. No file has been written then.
    """
    solver = read_solver(path, level, stages)
    if resume and (newest := newest_state(solver.snapshot_prefix)):
        weights, snapshot, resume_data = (), newest, True
    if weights and snapshot:
        raise NetError(
            "weights and a snapshot are given, of which one can be: a snapshot names its weights"
        )
    if weights:
        solver = replace(solver, weights=tuple(weights))
    if device == "auto" and not solver.on_gpu:
        device = "cpu"
    with (
        join_team(device, solver.device_id) as team,
        open_engine(
            solver,
            team,
            log=log,
            snapshot=snapshot,
            resume_data=resume_data,
            workers=workers,
            arithmetic=arithmetic,
            requested=requested,
            progress=progress,
        ) as engine,
    ):
        engine.solve()
    return engine


@contextmanager
def open_engine(
    solver: Solver,
    team: Team,
    *,
    log: Log,
    snapshot: str | None = None,
    resume_data: bool = False,
    workers: int | None = None,
    arithmetic: Arithmetic = PLAIN,
    requested: Callable[[], Action] = lambda: Action.NONE,
    progress: Callable[[int, int], None] = lambda iteration, end: None,
) -> Iterator[Engine]:
    """The engine of a solver with its nets; the processes that read data end with the block.

    The arguments are as for ``train``.
    """
    if team.leads:
        warn_idle(solver)
    state = None if snapshot is None else read_state(snapshot)
    files: list[str | Path] = list(solver.weights)
    if state is not None and snapshot is not None:
        files.append(learned_net(state, snapshot))
    source = read_weights(files)

    def opened(described: NetOf) -> FedNet:
        return FedNet(_open(described, solver, source, team), team.device, workers, arithmetic)

    net = opened(solver.train)
    check_learns(net)
    tests = []
    if team.leads:
        for described in solver.tests:
            tests.append(opened(described))
            tests[-1].share_from(net)
    engine = Engine(solver, net, tests, log=log, team=team, requested=requested, progress=progress)
    # Random numbers follow from the iteration, so that a restored run draws the same.
    engine.hooks.on_start.append(lambda: _seed(solver.seed, engine.iteration, team))
    if state is not None and snapshot is not None:
        engine.restore(state, snapshot)
        if resume_data:
            net.seek(engine.iteration * solver.iter_size)
            for test, count in zip(tests, solver.test_iter, strict=True):
                test.seek(solver.tests_before(engine.iteration) * count)
    try:
        yield engine
    finally:
        for one in (net, *tests):
            one.close()


@contextmanager
def open_fed(
    path: str | os.PathLike[str],
    phase: str,
    level: int = 0,
    stages: tuple[str, ...] = (),
    weights: Sequence[str] = (),
    device: str = "auto",
    workers: int | None = None,
) -> Iterator[FedNet]:
    """The net of a prototxt with its data and ``weights``, without a solver."""
    net = open_net(
        read_prototxt(path),
        State(phase, level, stages),
        folder=Path(path).parent,
        weights=read_weights(weights),
    )
    fed = FedNet(net, choose_device(device), workers)
    try:
        yield fed
    finally:
        fed.close()


def read_weights(files: Sequence[str | Path]) -> BlobSource:
    """The blobs of several weights files; of a layer that several have, the last one's count."""
    if not files:
        return BlobSource()
    sources = [blob_source(read_caffemodel(file)) for file in files]
    entries = tuple(entry for source in sources for entry in source.entries)
    return replace(sources[-1], entries=entries)


def check_learns(net: FedNet) -> None:
    """Raise NetError for a net whose learned blobs no training would change.

    UnsupportedLayerError for one of which a gradient is asked for that Caffe does not have, or
    that overwrites a weight of its loss.
    """
    for node, needs in zip(net.net.graph.nodes, net.net.needs, strict=True):
        check_gradients(node, needs)
    check_weights(net.net.graph, net.net.needs)
    if not net.net.loss_weights:
        raise NetError(
            f"the net {net.name!r} has no loss in phase {net.net.graph.phase}: there is nothing to "
            "learn; add a loss layer, or a loss_weight"
        )
    if not any(slot.lr_mult for slot in net.slots):
        raise NetError(
            f"the net {net.name!r} has nothing to learn: it has no learned blob whose lr_mult is "
            "not 0"
        )


def _open(described: NetOf, solver: Solver, source: BlobSource, team: Team) -> TrainingNet:
    training = described.state.phase == "TRAIN"
    return open_net(
        described.net,
        described.state,
        folder=described.folder,
        weights=source,
        seed=solver.seed,
        rank=team.rank if training else 0,
        world=team.world if training else 1,
    )


def _seed(seed: int, iteration: int, team: Team) -> None:
    torch.manual_seed(((seed << 20) + iteration) * team.world + team.rank & (1 << 63) - 1)
