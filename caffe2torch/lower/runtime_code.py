"""The text of what ``layers/_runtime`` defines, for files that must not import it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

PACKAGE = "caffe2torch.layers._runtime"


@dataclass(frozen=True)
class Definition:
    """A function, class or constant of the package, and the other ones that it mentions."""

    text: str
    needs: frozenset[str]
    is_constant: bool
    parameters: tuple[str, ...]
    """Names of what it is called with, in order."""
    defaults: Mapping[str, str]


def signature_of(name: str) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """The parameters of what the package defines as ``name``, and their defaults as text."""
    definition = _all_definitions()[name]
    return definition.parameters, definition.defaults


def definitions_of(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The text of the constants, and of the functions and classes, that ``names`` need.

    Both are in alphabetical order of their files, and within a file as they are there.
    """
    known = _all_definitions()
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += known[name].needs
    chosen = [definition for name, definition in known.items() if name in needed]
    return (
        [d.text for d in chosen if d.is_constant],
        [d.text for d in chosen if not d.is_constant],
    )


@cache
def _all_definitions() -> dict[str, Definition]:
    texts = sorted((f.name, f.read_text("utf-8")) for f in files(PACKAGE).iterdir() if f.is_file())
    found: dict[str, tuple[ast.stmt, str]] = {}
    for name, text in texts:
        if name.endswith(".py"):
            for node in ast.parse(text).body:
                if defined := _defined(node):
                    found[defined] = node, _lines(text, node)
    return {
        name: Definition(
            text,
            _names(node) & found.keys() - {name},
            isinstance(node, ast.Assign),
            *_signature(node),
        )
        for name, (node, text) in found.items()
    }


def _defined(node: ast.stmt) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _lines(text: str, node: ast.stmt) -> str:
    return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])


def _names(node: ast.stmt) -> frozenset[str]:
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _signature(node: ast.stmt) -> tuple[tuple[str, ...], dict[str, str]]:
    if isinstance(node, ast.ClassDef):
        made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return _signature(made[0]) if made else ((), {})
    if not isinstance(node, ast.FunctionDef):
        return (), {}
    names = [a.arg for a in (*node.args.args, *node.args.kwonlyargs) if a.arg != "self"]
    values = node.args.defaults
    positional = node.args.args[len(node.args.args) - len(values) :]
    pairs = [*zip(positional, values, strict=True)]
    pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d]
    return tuple(names), {argument.arg: ast.unparse(value) for argument, value in pairs}
