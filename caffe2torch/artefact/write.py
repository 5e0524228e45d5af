"""Write a graph as the kind of file that a suffix names: one writer a file of this package.

A function that writes a graph to a path is a writer, and one line makes it known::

    @register_writer(".kind")
    def write_kind(path, graph, *, half, durable, progress): ...

``caffe2torch convert MODEL net.kind`` then calls it.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Protocol, TypeVar

from caffe2torch import artefact
from caffe2torch.errors import ArtefactError
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io.arrays import Progress, ignore, to_half
from caffe2torch.io.checksum import LENGTH
from caffe2torch.version import __version__

PathLike = str | os.PathLike[str]
FORMAT = "caffe2torch"
FORMAT_VERSION = 2
"""Version 1 stored a SqueezeNet under the names of its model, with a map (``params``) of both."""


class Writer(Protocol):
    """What writes a kind of file."""

    def __call__(
        self, path: PathLike, graph: Graph, *, half: bool, durable: bool, progress: Progress
    ) -> None:
        """Write ``graph`` to ``path``, whole or not at all (``caffe2torch.io.atomic``).

        ``half`` stores the learned arrays as float16; see ``to_half`` for what it refuses.
        ``durable`` False is for what can be made again; see ``atomic_group``. ``progress`` is
        told of the bytes of the arrays as they are written. A writer may have options of its
        own beside these: keyword arguments with a default.
        """


Registered = TypeVar("Registered", bound=Writer)

_registry: dict[str, Writer] = {}


def register_writer(suffix: str) -> Callable[[Registered], Registered]:
    """Decorator: make a function the writer of files with ``suffix``, such as ``.pt``.

    A later registration of the same suffix wins.
    """

    def register(writer: Registered) -> Registered:
        _registry[suffix] = writer
        return writer

    return register


def suffixes() -> tuple[str, ...]:
    """The suffixes of all kinds of file; imports the writers' files, not their libraries."""
    for module in pkgutil.iter_modules(artefact.__path__):
        importlib.import_module(f"{artefact.__name__}.{module.name}")
    return tuple(sorted(_registry))


def check_suffix(path: PathLike, options: Iterable[str] = ()) -> None:
    """Raise ArtefactError unless ``path`` ends in a kind of file we write, with these options."""
    suffix = Path(path).suffix
    if suffix not in suffixes():
        raise ArtefactError(
            f"cannot tell the kind of {os.fspath(path)!r} from its suffix {suffix!r}; use one of "
            f"{', '.join(suffixes())}."
        )
    for option in options:
        having = [s for s in suffixes() if option in signature(_registry[s]).parameters]
        if suffix not in having:
            raise ArtefactError(
                f"a {suffix} file has no {option!r}; it is an option for {', '.join(having)}."
            )


def write_graph(
    graph: Graph,
    path: PathLike,
    *,
    half: bool = False,
    durable: bool = True,
    progress: Progress = ignore,
    **options: Any,
) -> None:
    """Write ``graph`` as the kind of artefact that the suffix names; arguments as of ``Writer``.

    Raises ArtefactError for ``options`` that its writer does not have.
    """
    check_suffix(path, options)
    writer = _registry[Path(path).suffix]
    writer(path, graph, half=half, durable=durable, progress=progress, **options)


def metadata_of(graph: Graph) -> dict[str, Any]:
    """Return the metadata of ``graph``: JSON values, and a checksum that may be pending."""
    output = graph.shapes[graph.blobs[graph.outputs[0]]] if len(graph.outputs) == 1 else ()
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "caffe2torch_version": __version__,
        "source_sha256": graph.source_sha256,
        "name": graph.name,
        "phase": graph.phase,
        "inputs": {i.name: list(i.shape) for i in graph.inputs},
        "outputs": list(graph.outputs),
        "blobs": list(graph.blobs),
        "num_classes": output[1] if len(output) > 1 else None,
        "preprocessing": graph.preprocessing.to_record() if graph.preprocessing else None,
        "definition": graph.definition,
    }


def contents_of(
    graph: Graph, *, half: bool, bare: bool
) -> tuple[Mapping[str, FloatArray], Mapping[str, Any] | None]:
    """The arrays of a file and its metadata; None for a ``bare`` state_dict, which has none."""
    params = state_of(graph) if bare else graph.params
    return to_half(params) if half else params, None if bare else metadata_of(graph)


def state_of(graph: Graph) -> dict[str, FloatArray]:
    """The learned arrays by the keys of the torch module's state_dict.

    An array that several layers share is there under the key of each.
    """
    return {
        f"{node.key}.{name}": graph.params[key]
        for node in graph.nodes
        for name, key in node.params.items()
    }


def dumps(metadata: Mapping[str, Any]) -> str:
    """The metadata as text; the same text for the same values. Waits for the checksum."""
    return json.dumps(metadata, sort_keys=True, default=str)


def draft(metadata: Mapping[str, Any]) -> str:
    """A text as long as that of ``dumps``, without waiting for the checksum."""
    return json.dumps(metadata, sort_keys=True, default=lambda _: "0" * LENGTH)
