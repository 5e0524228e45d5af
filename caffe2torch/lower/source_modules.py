"""The ``__init__`` of an emitted class: a module for each layer that has learned arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import accumulate

from caffe2torch.graph import FloatArray, Node
from caffe2torch.lower.expression import quote
from caffe2torch.lower.python_names import is_attribute

DICT_METHODS = frozenset({"clear", "items", "keys", "pop", "update", "values"})
"""Names that nn.ModuleDict does not take for a module."""


class SourceModules:
    """Constructors by module path, and the text that makes and finds them.

    A path is an attribute of an attribute (``self.fire2.squeeze1x1``); a part that is no
    Python identifier (GoogLeNet's ``inception_3a/1x1``) is a key of an nn.ModuleDict.

    How a path is written depends on all of them, so that ``planned`` must name the modules
    that will be added.
    """

    def __init__(self, params: Mapping[str, FloatArray], planned: Collection[str]) -> None:
        self._params = params
        self._planned = planned
        self._constructors: dict[str, str] = {}
        self._nodes: list[Node] = []
        self._children: dict[str, set[str]] = {}
        for path in (path for key in planned for path in _path_to(key)):
            parent, _, name = path.rpartition(".")
            self._children.setdefault(parent, set()).add(name)

    @property
    def keys(self) -> frozenset[str]:
        """The paths of the modules that were added."""
        return frozenset(self._constructors)

    def add(self, node: Node, constructor: str) -> str:
        """Have ``__init__`` make the node's module; returns the expression of it."""
        self._constructors[node.key] = constructor
        self._nodes.append(node)
        return self.expression(node.key)

    def array_shapes(self, node: Node) -> dict[str, tuple[int, ...]]:
        """The shapes of the node's arrays by name."""
        return {name: tuple(self._params[key].shape) for name, key in node.params.items()}

    def expression(self, key: str) -> str:
        """How a method of the class refers to the module ``key``."""
        text = "self"
        for path in _path_to(key):
            parent, _, part = path.rpartition(".")
            if is_attribute(part):
                text += f".{part}"
            elif self._is_dict(parent):
                text += f"[{quote(part)}]"
            else:
                text += f".get_submodule({quote(part)})"
        return text

    def statements(self) -> list[str]:
        """The assignments, a parent before its children; then the arrays that are shared."""
        paths = dict.fromkeys(path for key in self._constructors for path in _path_to(key))
        return [*map(self._assignment, paths), *self._ties()]

    def _assignment(self, key: str) -> str:
        container = "nn.ModuleDict()" if self._is_dict(key) else "nn.Module()"
        constructor = self._constructors.get(key, container)
        parent, _, name = key.rpartition(".")
        if self._is_dict(parent) or is_attribute(name):
            return f"{self.expression(key)} = {constructor}"
        owner = self.expression(parent) if parent else "self"
        return f"{owner}.add_module({quote(name)}, {constructor})"

    def aliases(self) -> dict[str, str]:
        """The keys of the state_dict whose array another key of it has already."""
        return {
            f"{node.key}.{name}": key
            for node in self._nodes
            for name, key in node.params.items()
            if f"{node.key}.{name}" != key
        }

    def _ties(self) -> list[str]:
        owners: dict[str, str] = {}
        lines = []
        for node in self._nodes:
            for name, key in node.params.items():
                place = f"{self.expression(node.key)}.{name}"
                if key in owners:
                    lines.append(f"{place} = {owners[key]}")
                owners.setdefault(key, place)
        return lines

    def _is_dict(self, key: str) -> bool:
        """Whether the module ``key`` is a container with names that are no attributes."""
        children = self._children.get(key, set())
        return (
            bool(key)
            and key not in self._planned
            and not all(is_attribute(child) for child in children)
            and not DICT_METHODS.intersection(children)
        )


def _path_to(key: str) -> Iterator[str]:
    """The modules that lead to ``key``, and itself: ``a``, ``a.b`` and ``a.b.c``."""
    return accumulate(key.split("."), "{}.{}".format)
