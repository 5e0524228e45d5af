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


def signature_of(name: str) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """Of what the package defines as ``name``: parameters' defaults as text, all parameters."""
    definition = _all_definitions()[name]
    return definition.defaults, definition.parameters


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
                source = _text_of(node, text)
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    found[node.name] = node, source
                elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    found[node.targets[0].id] = node, source
    return {
        name: Definition(
            text,
            frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id != name)
            & found.keys(),
            isinstance(node, ast.Assign),
            *_signature(node),
        )
        for name, (node, text) in found.items()
    }


def _text_of(node: ast.stmt, text: str) -> str:
    """The lines of a definition, with its decorators."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])


def _signature(node: ast.stmt) -> tuple[tuple[str, ...], dict[str, str]]:
    if isinstance(node, ast.ClassDef):
        made = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        return _signature(made[0]) if made else ((), {})
    if not isinstance(node, ast.FunctionDef):
        return (), {}
    positional, keyword = node.args.args, node.args.kwonlyargs
    names = tuple(a.arg for a in (*positional, *keyword) if a.arg != "self")
    # Defaults belong to the last of the positional parameters.
    pairs = [*zip(positional[::-1], node.args.defaults[::-1], strict=False)]
    pairs += [(a, d) for a, d in zip(keyword, node.args.kw_defaults, strict=True) if d]
    return names, {argument.arg: ast.unparse(value) for argument, value in pairs}
