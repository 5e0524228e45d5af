"""What runs a net. An engine has a name, and here a file of that name.

A class with ``run`` is an engine, and one line makes it known::

    @register_engine("mine")
    class MyEngine:
        def __init__(self, job: Job) -> None: ...

        def run(self, inputs: Mapping[str, FloatArray]) -> Blobs: ...

``caffe2torch parity`` then runs it beside the others, and ``--engine mine`` by name. With
``by_default=False`` it runs only by name, and by ``--engine all``.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from caffe2torch.errors import EngineError, NotInstalledError, UnsupportedLayerError

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Graph

Blobs = dict[str, "Array"]
"""Arrays by Caffe's name of the blob."""
PathLike = str | os.PathLike[str]

BASELINE = "torch"
"""The engine that leads the list, so that the others are compared with it."""
FLOAT32 = "float32"
"""What an engine computes in that does not say otherwise."""
ALL = "all"
"""Stands for every engine that is known."""


class Engine(Protocol):
    """A net that is ready to run.

    One that computes in less than float32 says so by an attribute ``precision`` (``bfloat16`` or
    ``float16``): its rounding is judged by that.
    """

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """The blobs that the engine can show for one batch of ``inputs`` ({blob: array})."""


@dataclass(frozen=True)
class Job:
    """What an engine is asked to run.

    ``model`` and ``prototxt`` are the files that ``graph`` was read from, None where there
    are none. ``every_blob`` False says that the net's outputs are enough.
    """

    graph: Graph
    model: PathLike | None = None
    prototxt: PathLike | None = None
    every_blob: bool = True


Start = TypeVar("Start", bound=Callable[[Job], Engine])


@dataclass(frozen=True)
class _Registered:
    """``place`` orders the engines: by file, those from outside last."""

    start: Callable[[Job], Engine]
    by_default: bool
    place: str


_registry: dict[str, _Registered] = {}


def register_engine(name: str, *, by_default: bool = True) -> Callable[[Start], Start]:
    """Decorator: make what is called with a Job, and gives an Engine, the engine ``name``.

    It raises NotInstalledError where what it needs is not there, and EngineError where it cannot
    run the net. A later registration of the same name wins.
    """

    def register(start: Start) -> Start:
        inside, _, file = start.__module__.rpartition(".")
        _registry[name] = _Registered(start, by_default, file if inside == __name__ else "~")
        return start

    return register


def engine_names(*, by_default: bool = False) -> tuple[str, ...]:
    """The names of all engines, or of those that run where none is named.

    The baseline leads, the others that run by default follow, by file; then the rest. Imports
    the files, which import next to nothing before an engine is started: ``--help`` lists the names.
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    found = _registry.items()
    order = sorted(found, key=lambda e: (e[0] != BASELINE, not e[1].by_default, e[1].place))
    return tuple(name for name, engine in order if engine.by_default or not by_default)


def start_engine(name: str, job: Job) -> Engine:
    """The engine ``name``, ready to run ``job``.

    Raises:
        NotInstalledError: what it needs is not installed.
        EngineError: there is none of that name, or it cannot run the net.
        UnsupportedLayerError: a layer has no form for it.
    """
    if name not in engine_names():
        raise EngineError(f"unknown engine {name!r}; known are {', '.join(engine_names())}.")
    return _registry[name].start(job)


def start_engines(
    names: Sequence[str], job: Job, *, demanded: bool = False
) -> tuple[dict[str, Engine], dict[str, str]]:
    """The engines of ``names`` that can run ``job``, and why the others cannot, by name.

    Raises NotInstalledError for one that is not installed if ``demanded``.
    """
    running, skipped = {}, {}
    for name in names:
        try:
            running[name] = start_engine(name, job)
        except (EngineError, UnsupportedLayerError) as error:
            if demanded and isinstance(error, NotInstalledError):
                raise
            skipped[name] = str(error)
    return running, skipped


def precision_of(engine: Engine) -> str:
    """What an engine computes in: ``float32``, or less."""
    return str(getattr(engine, "precision", FLOAT32))


def library(module: str, title: str, install: str) -> Any:
    """The module of an engine's library. ``install`` is what pip is given to install it.

    Raises NotInstalledError where it is not there.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotInstalledError(f"{title} is not installed: pip install {install}") from error
