"""A solver.prototxt as plain data, with Caffe's defaults; what Caffe refuses is refused."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from caffe2torch.errors import Caffe2TorchError, Caffe2TorchWarning, NetError, ReadError
from caffe2torch.io.files import text_of
from caffe2torch.io.prototxt import parse_prototxt, read_prototxt
from caffe2torch.io.schema import Message, enum_name, message_class
from caffe2torch.passes.draft import State
from caffe2torch.training.rules import POLICIES, SOLVER_TYPES, Schedule

IDLE = {
    "debug_info": "it prints the size of each blob in Caffe",
    "layer_wise_reduce": "gradients of several processes are averaged once a step",
    "eval_type": "it belongs to SSD's detection nets",
    "ap_version": "it belongs to SSD's detection nets",
    "show_per_class_result": "it belongs to SSD's detection nets",
    "plateau_winsize": "it belongs to the policy plateau of a fork",
}
"""Fields of SolverParameter that change nothing here, and why."""
TRAIN_NETS = ("net", "net_param", "train_net", "train_net_param")
"""The fields of which one gives the training net."""


@dataclass(frozen=True)
class NetOf:
    """A net of a solver: its definition and the state that decides its layers.

    ``source``, for messages, is the file or the field where it stands; ``folder`` is where its
    data may lie.
    """

    net: Message
    state: State
    source: str
    folder: Path | None


@dataclass(frozen=True)
class Solver:
    """What a solver.prototxt asks for (Caffe: SolverParameter in caffe.proto).

    ``tests`` are the test nets, with the number of passes of each test in ``test_iter``. 0 as
    ``display``, ``test_interval`` or ``snapshot`` is never. ``clip_gradients`` below 0 clips
    nothing. ``seed`` is ``random_seed``, 0 if it gives none: the same run every time. ``weights``
    are files in the order in which they are loaded. ``on_gpu`` and ``device_id`` are
    the device that the file asks for. ``given`` names the fields that the file has, ``idle`` those
    that have no effect, with why.
    """

    path: str
    schedule: Schedule
    train: NetOf
    tests: tuple[NetOf, ...]
    test_iter: tuple[int, ...]
    test_interval: int
    test_initialization: bool
    test_compute_loss: bool
    max_iter: int
    iter_size: int
    display: int
    average_loss: int
    type: str
    momentum: float
    momentum2: float
    delta: float
    rms_decay: float
    weight_decay: float
    regularization_type: str
    clip_gradients: float
    snapshot: int
    snapshot_prefix: str
    snapshot_after_train: bool
    snapshot_format: str
    seed: int
    on_gpu: bool
    device_id: int
    layer_wise_reduce: bool
    weights: tuple[str, ...]
    given: tuple[str, ...]
    idle: dict[str, str]

    def tests_before(self, iteration: int) -> int:
        """How many tests of each net there have been when ``iteration`` begins."""
        if not self.test_interval:
            return 0
        return -(-iteration // self.test_interval) - (
            iteration > 0 and not self.test_initialization
        )


def read_solver(
    path: str | os.PathLike[str],
    level: int = 0,
    stages: tuple[str, ...] = (),
    *,
    needs_net: bool = True,
) -> Solver:
    """Read the solver of a whole training, and the nets that it names.

    Files are looked for from the current folder, as Caffe does, and then from the solver's.
    ``level`` replaces that of the training net's state, in the solver and in the net, and
    ``stages`` are added to it, as ``caffe train`` does with its options (tools/caffe.cpp). Where
    the caller has a net, ``needs_net`` is False: a solver without one gets a training net without
    layers, and no test nets. Raises ReadError or NetError for what Caffe would not train.
    """
    name = os.fspath(path)
    try:
        text = text_of(Path(name).read_bytes(), name)
    except OSError as error:
        raise ReadError(f"cannot read the solver {name}: {error.strerror or error}") from error
    proto = parse_prototxt(text, name, message="SolverParameter")
    other_level = proto.train_state.level not in (0, level)
    proto.train_state.level = level
    proto.train_state.stage.extend(stages)
    solver = solver_of(proto, name, needs_net=needs_net)
    if other_level:
        why = f"as in caffe train, the level is the one that is asked for, {level} (--level)"
        solver.idle["train_state.level"] = why
    if solver.max_iter < 1:
        raise NetError(f"{name}: the solver sets no max_iter: there is nothing to do")
    return solver


def warn_idle(solver: Solver) -> None:
    """Warn of each field that has no effect."""
    for field, why in solver.idle.items():
        message = f"{solver.path}: {field} has no effect: {why}"
        warnings.warn(message, Caffe2TorchWarning, stacklevel=3)


def solver_of(proto: Message, path: str, *, needs_net: bool = True) -> Solver:
    """The solver of a SolverParameter, which was read from ``path``. See ``read_solver``."""
    folder = Path(path).parent
    try:
        _check(proto)
        if needs_net or _given(proto, TRAIN_NETS):
            train, tests = _train_net(proto, folder), _test_nets(proto, folder)
        else:
            empty = message_class("NetParameter")()
            train, tests = NetOf(empty, State("TRAIN"), "no net", folder), ()
        return Solver(
            path=path,
            schedule=_schedule(proto),
            train=train,
            tests=tests,
            test_iter=tuple(proto.test_iter),
            test_interval=proto.test_interval,
            test_initialization=proto.test_initialization,
            test_compute_loss=proto.test_compute_loss,
            max_iter=proto.max_iter,
            iter_size=proto.iter_size,
            display=proto.display,
            average_loss=proto.average_loss,
            type=_type(proto),
            momentum=proto.momentum,
            momentum2=proto.momentum2,
            delta=proto.delta,
            rms_decay=proto.rms_decay,
            weight_decay=proto.weight_decay,
            regularization_type=proto.regularization_type,
            clip_gradients=proto.clip_gradients,
            snapshot=proto.snapshot,
            snapshot_prefix=_snapshot_prefix(proto, path),
            snapshot_after_train=proto.snapshot_after_train,
            snapshot_format=enum_name(proto, "snapshot_format"),
            seed=max(0, proto.random_seed),
            on_gpu=enum_name(proto, "solver_mode") == "GPU",
            device_id=proto.device_id,
            layer_wise_reduce=proto.layer_wise_reduce,
            weights=_names(proto.weights),
            given=tuple(field.name for field, _ in proto.ListFields()),
            idle={f: why for f, why in IDLE.items() if _is_given(proto, f)} | _unread(proto),
        )
    except Caffe2TorchError as error:
        if error.place is None and not str(error).startswith(path):
            error.args = (f"{path}: {error}",)
        raise


def _check(proto: Message) -> None:
    """What Caffe checks, beside the nets (solver.cpp, sgd_solver.cpp, sgd_solvers.hpp)."""
    if proto.average_loss < 1:
        raise NetError(f"average_loss is {proto.average_loss}: it must be 1 or more")
    if proto.iter_size < 1:
        raise NetError(f"iter_size is {proto.iter_size}: it must be 1 or more")
    for field in ("test_interval", "display", "snapshot"):
        if getattr(proto, field) < 0:
            raise NetError(f"{field} is {getattr(proto, field)}: it must be 0 (never) or more")
    if not proto.HasField("base_lr"):
        raise NetError("the solver sets no base_lr, without which nothing is learned")
    if proto.snapshot_diff:
        raise NetError(
            "snapshot_diff is true, and gradients are not written here; no program reads them: "
            "remove it"
        )
    type_ = _type(proto)
    if type_ not in SOLVER_TYPES:
        raise NetError(f"there is no solver type {type_!r}: choose {', '.join(SOLVER_TYPES)}")
    if proto.momentum and "momentum" not in SOLVER_TYPES[type_].reads:
        raise NetError(f"momentum is {proto.momentum:g}: it cannot be used with {type_}; remove it")
    if "rms_decay" in SOLVER_TYPES[type_].reads and not 0 <= proto.rms_decay < 1:
        raise NetError(f"rms_decay is {proto.rms_decay:g}: it must be in [0, 1)")
    if proto.weight_decay and proto.regularization_type not in ("L1", "L2"):
        raise NetError(f"regularization_type is {proto.regularization_type!r}: choose L1 or L2")


def _schedule(proto: Message) -> Schedule:
    policy = proto.lr_policy
    known = [name for name, entry in POLICIES.items() if entry.in_caffe]
    if not policy:
        raise NetError(f"the solver sets no lr_policy: choose {', '.join(known)}")
    if policy not in known:
        raise NetError(f"unknown learning rate policy {policy!r}: choose {', '.join(known)}")
    if "gamma" in POLICIES[policy].reads and proto.gamma < 0:
        raise NetError(f"gamma is {proto.gamma:g}: it must be 0 or more with lr_policy {policy!r}")
    return Schedule(
        policy,
        proto.base_lr,
        proto.max_iter,
        proto.gamma,
        proto.power,
        proto.stepsize,
        tuple(proto.stepvalue),
    )


def _type(proto: Message) -> str:
    """The solver's name; the older ``solver_type`` is an enum of the same names in capitals."""
    if not proto.HasField("solver_type"):
        return str(proto.type)
    if proto.HasField("type"):
        raise NetError(
            "both type and the older solver_type are given, which Caffe refuses: remove solver_type"
        )
    return {name.upper(): name for name in SOLVER_TYPES}[enum_name(proto, "solver_type")]


def _train_net(proto: Message, folder: Path) -> NetOf:
    fields = _given(proto, TRAIN_NETS)
    if len(fields) != 1:
        given = f"{' and '.join(fields)} are given" if fields else "none is given"
        raise NetError(
            "the training net is one of net, net_param, train_net and train_net_param: "
            f"{given}; give one"
        )
    value = getattr(proto, fields[0])
    return _net_of(value, fields[0], "TRAIN", proto.train_state, folder)


def _test_nets(proto: Message, folder: Path) -> tuple[NetOf, ...]:
    """Nets of their own first, and then the common net as often as there are test_iter left."""
    if proto.HasField("net") and proto.HasField("net_param"):
        raise NetError("both net and net_param are given: give one")
    own = [("test_net_param", net) for net in proto.test_net_param]
    own += [("test_net", name) for name in proto.test_net]
    common = next((f for f in ("net", "net_param") if proto.HasField(f)), None)
    more = len(proto.test_iter) - len(own)
    if more < 0 or (more and common is None):
        raise NetError(
            f"test_iter is given {len(proto.test_iter)} times for {len(own)} test nets: give it "
            "once for each"
        )
    own += [(common, getattr(proto, common))] * more if common else []
    states = list(proto.test_state)
    if states and len(states) != len(own):
        raise NetError(
            f"test_state is given {len(states)} times for {len(own)} tests (as many as there are "
            "test_iter): give it once for each, or not at all"
        )
    if own and not proto.test_interval:
        raise NetError("there is a test_iter, but no test_interval above 0: give both or none")
    return tuple(
        _net_of(net, field, "TEST", state, folder)
        for (field, net), state in zip(own, states or [None] * len(own), strict=True)
    )


def _net_of(
    value: Message | str, field: str, phase: str, over: Message | None, folder: Path
) -> NetOf:
    """The net of a field; its state is the phase, then its own, then the solver's for it."""
    if isinstance(value, str):
        path = _find(value, folder, field)
        net, source, place = read_prototxt(path), str(path), path.parent
    else:
        net, source, place = value, field, folder
    level, stages = 0, []
    for state in (net.state, over):
        if state is None:
            continue
        if state.HasField("phase"):
            phase = enum_name(state, "phase")
        if state.HasField("level"):
            level = state.level
        stages += state.stage
    return NetOf(net, State(phase, level, tuple(stages)), source, place)


def _find(name: str, folder: Path, field: str) -> Path:
    for place in (Path(), folder):
        if (place / name).is_file():
            return place / name
    raise ReadError(
        f"{field} {name!r} is neither in the current folder nor beside the solver: correct the "
        "name, or put the net there"
    )


def _snapshot_prefix(proto: Message, path: str) -> str:
    """The solver's own name without its suffix where none is given, or in the folder given.

    Caffe: UpgradeSnapshotPrefixProperty in upgrade_proto.cpp.
    """
    prefix = str(proto.snapshot_prefix)
    if not proto.HasField("snapshot_prefix"):
        return str(Path(path).with_suffix(""))
    return str(Path(prefix, Path(path).stem)) if os.path.isdir(prefix) else prefix


def _names(values: list[str]) -> tuple[str, ...]:
    """Names of files, of which a string may hold several with commas between them."""
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def _given(proto: Message, fields: tuple[str, ...]) -> list[str]:
    return [field for field in fields if proto.HasField(field)]


def _is_given(proto: Message, field: str) -> bool:
    if field == "plateau_winsize":
        return bool(proto.plateau_winsize)
    return bool(proto.HasField(field))


def _unread(proto: Message) -> dict[str, str]:
    """The numbers that belong to another policy or solver type, which Caffe does not read."""
    policy = POLICIES[proto.lr_policy].reads
    rule = SOLVER_TYPES[_type(proto)].reads
    given = {field.name for field, _ in proto.ListFields()}
    of_policy = dict.fromkeys(
        given & {"gamma", "power", "stepsize", "stepvalue"} - set(policy),
        f"the lr_policy {proto.lr_policy!r} does not read it",
    )
    of_rule = dict.fromkeys(
        given & {"momentum", "momentum2", "delta", "rms_decay"} - set(rule),
        f"the solver type {_type(proto)!r} does not read it",
    )
    return of_policy | of_rule
