"""The ``forward`` of an emitted class: a statement for each layer, variables named by blobs."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping, Sequence
from math import inf

from caffe2torch.graph import Graph, Node
from caffe2torch.lower.memory import kept_values
from caffe2torch.lower.python_format import WIDTH
from caffe2torch.lower.python_names import variable
from caffe2torch.lower.recorder import Recorder
from caffe2torch.lower.source_modules import SourceModules

PENDING = "Ω"
"""Stands for an operand of which it is open whether it gets a statement of its own.

No other text of the file has a letter beyond ASCII.
"""
INDENT = 8


class SourceForward:
    """Statements and module constructors of a graph.

    A variable holds a blob. A layer that changes a blob in place assigns to its variable
    again, or is written around the call that it follows: ``x = F.relu(self.conv1(data))``.
    """

    def __init__(self, graph: Graph, planned: Collection[str], reserved: Collection[str]) -> None:
        self.modules = SourceModules(graph.params, planned)
        self.statements: list[str] = []
        self.used: set[str] = set()
        self.own: dict[str, str] = {}
        """The text of plugins' functions by name."""
        self._graph = graph
        self._reserved = reserved
        self._needed, self._last_use, self._readers = _uses(graph)
        self._variables = _Variables(reserved, self._last_use)
        self._pending: tuple[str, str] | None = None
        """The value that PENDING stands for, and its expression."""
        for declared in graph.inputs:
            self._variables.assign(declared.name, -1)
        self.parameters = [self._variables.text[i.name] for i in graph.inputs]
        for index, node in enumerate(graph.nodes):
            self._add(index, node)
        for kept in kept_values(graph):
            module = self.modules.expression(kept.node.key)
            top = f", {kept.top}" if kept.top else ""
            self.statements.append(f"{module}.keep({self._variables.text[kept.value]}{top})")

    def output(self, blob: str) -> str:
        """The variable of an output blob."""
        return self._variables.text[self._graph.blobs[blob]]

    def _add(self, index: int, node: Node) -> None:
        is_needed = index in self._needed
        if not is_needed and not node.params:
            return
        texts = self._variables.text
        inputs = [texts[name] if is_needed else "_" for name in node.inputs]
        for position in node.cut:
            inputs[position] += ".detach()"
        shapes = [self._graph.shapes[name] for name in node.inputs]
        result = Recorder(node, self.modules, self.used, self.own).tops(inputs, shapes)
        assert not node.params or node.key in self.modules.keys, f"no home for {node.params}"
        if not is_needed:
            return  # Nothing reads it; its arrays keep their place in the state_dict.
        self._assign(index, node, self._without_pending(index, node, result))

    def _without_pending(
        self, index: int, node: Node, result: str | Sequence[str]
    ) -> str | Sequence[str]:
        """``result`` with the pending call inside it, or with the variable that now holds it."""
        if self._pending is None:
            return result
        (value, expression), self._pending = self._pending, None
        if isinstance(result, str) and _takes(result, expression):
            whole = result.replace(PENDING, expression)
            target = variable(_blob(node.outputs[0]))
            if len(node.outputs) == 1 and INDENT + len(f"{target} = {whole}") <= WIDTH:
                return whole
        name = self._write(value, expression, index - 1)
        if isinstance(result, str):
            return result.replace(PENDING, name)
        return [text.replace(PENDING, name) for text in result]

    def _assign(self, index: int, node: Node, result: str | Sequence[str]) -> None:
        is_one = len(node.outputs) == 1
        if isinstance(result, str) and not is_one:
            names = [self._variables.assign(value, index) for value in node.outputs]
            self.statements.append(f"{', '.join(names)} = {result}")
            return
        expressions = [result] if isinstance(result, str) else result
        for value, expression in zip(node.outputs, expressions, strict=True):
            if expression.isidentifier():
                self._variables.alias(value, expression)
            elif is_one and self._is_inner(index, value):
                self._variables.text[value] = PENDING
                self._pending = value, expression
            else:
                # Before the last of several statements the inputs are still needed.
                self._write(value, expression, index if is_one else index - 1)

    def _write(self, value: str, expression: str, index: int) -> str:
        """Add a statement that assigns ``value``; returns the variable (see ``assign``)."""
        name = self._variables.assign(value, index)
        self.statements.append(f"{name} = {expression}")
        return name

    def _is_inner(self, index: int, value: str) -> bool:
        """Whether only the next layer reads ``value``, to change it in place."""
        if self._readers.get(value) != [index + 1] or self._last_use[value] == inf:
            return False
        following = self._graph.nodes[index + 1]
        return len(following.outputs) == 1 and _blob(following.outputs[0]) == _blob(value)


class _Variables:
    """Which variable holds which value. A name belongs to one blob."""

    def __init__(self, reserved: Collection[str], last_use: Mapping[str, float]) -> None:
        self.text: dict[str, str] = {}
        self._reserved = reserved
        self._last_use = last_use
        self._owner: dict[str, str] = {}
        self._holds: dict[str, list[str]] = {}

    def assign(self, value: str, index: int) -> str:
        """Give ``value`` a variable none of whose values is read after node ``index``."""
        blob = _blob(value)
        first = name = variable(blob)
        if value not in self._last_use and index >= 0:
            first = name = f"_{name}"  # Nothing reads it.
        count = 1
        while not self._is_free(name, blob, index):
            count += 1
            name = f"{first}_{count}"
        self._owner[name] = blob
        self._holds[name] = [value]
        self.text[value] = name
        return name

    def alias(self, value: str, name: str) -> None:
        """Let ``value`` be what the variable ``name`` holds."""
        self.text[value] = name
        self._holds[name].append(value)

    def _is_free(self, name: str, blob: str, index: int) -> bool:
        return (
            name not in self._reserved
            and self._owner.get(name, blob) == blob
            and all(self._last_use.get(v, -1) <= index for v in self._holds.get(name, ()))
        )


def _uses(graph: Graph) -> tuple[set[int], dict[str, float], dict[str, list[int]]]:
    """The nodes that outputs need; for each value the last of them to read it, and all."""
    last_use: dict[str, float] = {graph.blobs[blob]: inf for blob in graph.outputs}
    last_use |= {kept.value: inf for kept in kept_values(graph)}
    readers: dict[str, list[int]] = {}
    needed: set[int] = set()
    for index in reversed(range(len(graph.nodes))):
        node = graph.nodes[index]
        if any(value in last_use for value in node.outputs):
            needed.add(index)
            for value in node.inputs:
                last_use.setdefault(value, index)
                readers.setdefault(value, []).insert(0, index)
    return needed, last_use, readers


def _blob(value: str) -> str:
    """The blob of which ``value`` is a version."""
    return value.rsplit("@", 1)[0]


def _takes(result: str, expression: str) -> bool:
    """Whether ``expression`` can stand for the pending operand: read once, bound as it was."""
    if result.count(PENDING) != 1:
        return False
    is_argument = re.search(rf"[(,] ?{PENDING}[,)]", result) is not None
    return is_argument or isinstance(
        ast.parse(expression, mode="eval").body, ast.Call | ast.Subscript
    )
