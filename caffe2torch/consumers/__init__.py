"""Programs that converted nets are deployed to. A consumer has a name, and here a file.

``caffe2torch convert MODEL net.onnx --for NAME`` writes the form that the consumer reads rightly.
A subclass of Consumer is one, and one line makes it known::

    @register_consumer("mine")
    class Mine(Consumer):
        title = "My runtime"
        packages = ("myruntime==1.2",)
        form = {"static": True}
        unread = {"NonZero": "it plans with fixed sizes"}

        def version(self) -> str | None:
            return installed("myruntime")

        def run(self, model, inputs, outputs):
            import myruntime
            return dict(zip(outputs, myruntime.load(model).run(list(inputs.values()))))

Its file says what is true of that consumer alone; what every reader reads belongs in the layers'
ONNX forms. ``run`` is called in a process of its own, in tools/runtimes.py in another environment:
a consumer's file imports numpy and its own library, and the latter inside of functions.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from caffe2torch.errors import ArtefactError

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array, FloatArray, Graph, Shape


@dataclass(frozen=True)
class Doubt:
    """A node of an ONNX graph that a consumer does not read, or reads wrongly, and why.

    ``why`` follows "because" in a sentence.
    """

    node: onnx.NodeProto
    why: str


class Consumer:
    """What is known of one consumer. Attributes and methods have defaults but for ``title``.

    An instance is cheap: nothing of the consumer's is imported before ``run``.
    """

    name: ClassVar[str] = ""
    """Set by its registration."""
    title: ClassVar[str]
    """Its name in a sentence."""
    suffix: ClassVar[str] = ".onnx"
    """Of the file that it reads."""
    form: ClassVar[Mapping[str, Any]] = {}
    """Options of the .onnx writer (``opset``, ``batch``, ``static``, ``fixed_rows``) that it needs.
    What the user says takes their place."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Pinned packages of pip's that install it: what tools/runtimes.py measures it with."""
    node_packages: ClassVar[tuple[str, ...]] = ()
    """The same of npm's, for ``node_modules`` in the environment's folder (``sys.prefix``)."""
    operators: ClassVar[frozenset[str] | None] = None
    """The ONNX operators that it reads; None: those that are not in ``unread``."""
    unread: ClassVar[Mapping[str, str]] = {}
    """Operators that it does not read, or reads wrongly, and why (after "because")."""
    source: ClassVar[str] = "what was measured"
    """Where ``operators``, ``unread`` and ``doubts`` come from, with the version."""
    note: ClassVar[str] = ""
    """What its user must set, such as the precision; printed when a file is written."""
    avoid: ClassVar[str] = ""
    """What its user must not do with the file; printed as well."""
    avoid_with: ClassVar[str] = ""
    """The ONNX operator that ``avoid`` is about, in files without which it is not printed."""
    platform: ClassVar[str] = ""
    """The ``sys.platform`` that alone it runs on; files are written on any."""
    must_run: ClassVar[bool] = False
    """Whether too little is known of what it reads to write a file that it has not run."""
    load: ClassVar[str] = ""
    """The line of code, or the command, that loads ``net.onnx``; for docs/runtimes.md."""

    def version(self) -> str | None:
        """The version that is installed in this environment; None if ``run`` cannot work."""
        return None

    def write(self, graph: Graph, path: Path, **options: Any) -> None:
        """Write ``graph`` for the consumer; ``options`` are a writer's, ``form`` among them."""
        from caffe2torch.artefact.write import write_graph

        write_graph(graph, path, rewrite=self.rewrite, **options)

    def rewrite(self, model: onnx.ModelProto) -> None:
        """Change the graph to what this consumer reads, in place.

        Inputs, outputs and results stay. The learned arrays are not in it: they are the inputs
        of nodes that nothing makes.
        """

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        """The nodes that must not be given to the consumer; a file that has one is refused.

        By default those of ``unread``, and those that are not in ``operators``.
        """
        for node in model.graph.node:
            if node.op_type in self.unread:
                yield Doubt(node, self.unread[node.op_type])
            elif self.operators is not None and node.op_type not in self.operators:
                yield Doubt(node, f"it is not in its list of operators ({self.source})")

    def translate(self, model: Path, output: Path) -> None:
        """Make another kind of file of an ONNX file. Raises whatever it does where that fails.

        For consumers whose ``write`` is ``consumers._program.write_translated``.
        """
        raise NotImplementedError

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        """The outputs by name. Raises whatever it does where the consumer fails.

        ``inputs`` and ``outputs`` are in the order of the file; the latter are the shapes that
        are expected.
        """
        raise NotImplementedError


Registered = TypeVar("Registered", bound=type[Consumer])

_registry: dict[str, Consumer] = {}


def register_consumer(name: str) -> Callable[[Registered], Registered]:
    """Decorator: make a subclass of Consumer the consumer ``name``.

    A later registration of the same name wins.
    """

    def register(kind: Registered) -> Registered:
        kind.name = name
        _registry[name] = kind()
        return kind

    return register


def consumer_names() -> tuple[str, ...]:
    """The names of all consumers in alphabetical order; imports their files."""
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")
    return tuple(sorted(_registry))


def consumer(name: str) -> Consumer:
    """The consumer ``name``. Raises ArtefactError if there is none."""
    if name not in consumer_names():
        raise ArtefactError(f"unknown consumer {name!r}; known are {', '.join(consumer_names())}.")
    return _registry[name]


def installed(package: str) -> str | None:
    """The version of a package in this environment; None if it is not there."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
