"""What runs a net. An engine has a name, and here a file of that name.

A class with ``run`` is an engine, and one line makes it known::

    @register_engine("mine")
    class MyEngine:
        def __init__(self, job: Job) -> None: ...

        def run(self, inputs: Mapping[str, FloatArray]) -> Blobs: ...

``caffe2torch parity`` then runs it beside the others, and ``--engine mine`` by name.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from caffe2torch.errors import EngineError, UnsupportedLayerError

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Graph

Blobs = dict[str, "Array"]
"""Arrays by Caffe's name of the blob."""
PathLike = str | os.PathLike[str]

BASELINE = "torch"
"""The engine that leads the list, so that the others are compared with it."""


class Engine(Protocol):
    """A net that is ready to run."""

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

_registry: dict[str, Callable[[Job], Engine]] = {}


def register_engine(name: str) -> Callable[[Start], Start]:
    """Decorator: make what is called with a Job, and gives an Engine, the engine ``name``.

    It raises EngineError where it cannot run the net. A later registration of the same name
    wins.
    """

    def register(start: Start) -> Start:
        _registry[name] = start
        return start

    return register


def engine_names() -> tuple[str, ...]:
    """The names of all engines: the baseline, those of files here by name, those from outside.

    Imports the files, which import next to nothing before an engine is started: ``--help``
    lists the names.
    """
    files = [module.name for module in pkgutil.iter_modules(__path__)]
    for name in files:
        importlib.import_module(f"{__name__}.{name}")
    names = [name for name in files if name in _registry]
    names += [name for name in _registry if name not in files]
    return tuple(sorted(names, key=lambda name: name != BASELINE))


def start_engine(name: str, job: Job) -> Engine:
    """The engine ``name``, ready to run ``job``.

    Raises:
        EngineError: there is none of that name, or it cannot run the net.
        UnsupportedLayerError: a layer has no form for it.
    """
    if name not in engine_names():
        raise EngineError(f"unknown engine {name!r}; known are {', '.join(engine_names())}.")
    return _registry[name](job)


def start_engines(names: Sequence[str], job: Job) -> tuple[dict[str, Engine], dict[str, str]]:
    """The engines of ``names`` that can run ``job``, and why the others cannot, by name."""
    running, skipped = {}, {}
    for name in names:
        try:
            running[name] = start_engine(name, job)
        except (EngineError, UnsupportedLayerError) as error:
            skipped[name] = str(error)
    return running, skipped
