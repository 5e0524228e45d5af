"""Long lines of Python wrapped as ruff and black wrap them."""

from __future__ import annotations

import ast

WIDTH = 88
"""The line length of both tools' defaults."""
STEP = 4


def wrap(statement: str, indent: int) -> str:
    """One assignment, return or expression ``statement`` as indented lines without a newline.

    Calls, tuples, lists and dicts are split at their outermost brackets first.
    """
    text = " " * indent + statement
    if len(text) <= WIDTH:
        return text
    node = ast.parse(statement).body[0]
    value = getattr(node, "value", None)
    if not isinstance(value, ast.expr):
        return text
    head = _targets(statement[: value.col_offset], indent)
    room = WIDTH - len(head.rpartition("\n")[2])
    flat, inner = _segment(statement, value), " " * (indent + STEP)
    in_parentheses = len(inner + flat) <= WIDTH and room > 0
    if _items(statement, value):
        opening = flat[: flat.index("(") + 1] if isinstance(value, ast.Call) else flat[0]
        if "\n" in head and len(flat) <= room:
            return head + flat
        if len(opening) <= room or not in_parentheses:
            return head + _split(statement, value, indent)
    if isinstance(value, ast.BinOp) or in_parentheses:
        terms = _terms(statement, value) if isinstance(value, ast.BinOp) else []
        lines = [inner + flat] if in_parentheses else [inner + term for term in terms]
        return "\n".join([f"{head}(", *lines, " " * indent + ")"])
    return text


def _targets(targets: str, indent: int) -> str:
    """``a, b = `` indented; too many names each on a line."""
    text = " " * indent + targets
    if len(text) <= WIDTH or ", " not in targets:
        return text
    names = targets.removesuffix(" = ").split(", ")
    inner = " " * (indent + STEP)
    return "\n".join([" " * indent + "(", *(f"{inner}{n}," for n in names), " " * indent + ") = "])


def wrap_parameters(head: str, parameters: list[str], tail: str, indent: int) -> str:
    """``def name(`` + parameters + ``) -> Type:`` as indented lines."""
    text = " " * indent + head + ", ".join(parameters) + tail
    if len(text) <= WIDTH or not parameters:
        return text
    inner = " " * (indent + STEP)
    joined = inner + ", ".join(parameters)
    lines = [joined] if len(joined) <= WIDTH else [f"{inner}{p}," for p in parameters]
    return "\n".join([" " * indent + head, *lines, " " * indent + tail])


def _items(source: str, node: ast.expr) -> list[tuple[str, ast.expr]]:
    """What is in the brackets of ``node``, each after its keyword or key."""
    if isinstance(node, ast.Call):
        keywords = [(f"{keyword.arg}=", keyword.value) for keyword in node.keywords]
        return [*(("", argument) for argument in node.args), *keywords]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return [(f"{_segment(source, key)}: ", value) for key, value in pairs if key is not None]
    return [("", item) for item in node.elts] if isinstance(node, ast.Tuple | ast.List) else []


def _split(source: str, node: ast.expr, indent: int) -> str:
    """``node`` with what is in its brackets on lines of its own."""
    items = _items(source, node)
    before = _end(node.func) if isinstance(node, ast.Call) else node.col_offset
    opening, closing = source[node.col_offset : before + 1], source[_end(node) - 1]
    inner = " " * (indent + STEP)
    joined = inner + ", ".join(prefix + _segment(source, item) for prefix, item in items)
    if isinstance(node, ast.Call) and len(joined) <= WIDTH:
        lines = [joined]
    else:
        fitted = ((prefix, _fit(source, item, prefix, indent + STEP)) for prefix, item in items)
        lines = [f"{inner}{prefix}{text}," for prefix, text in fitted]
    return "\n".join([opening, *lines, " " * indent + closing])


def _fit(source: str, node: ast.expr, prefix: str, indent: int) -> str:
    flat = _segment(source, node)
    fits = indent + len(prefix) + len(flat) + 1 <= WIDTH
    return flat if fits or not _items(source, node) else _split(source, node, indent)


def _terms(source: str, node: ast.BinOp) -> list[str]:
    """The operands of a chain of one precedence, each after the first with its operator.

    A node begins before the brackets of its left operand, and ends after those of its right one.
    """
    gap = source[_end(node.left) : node.right.col_offset]
    operator = gap.strip(" ()")
    closing, _, opening = gap.partition(operator)
    same = isinstance(node.left, ast.BinOp) and _precedence(node.left.op) == _precedence(node.op)
    if isinstance(node.left, ast.BinOp) and same and ")" not in closing:
        first = _terms(source, node.left)
    else:
        first = [source[node.col_offset : _end(node.left) + len(closing)].rstrip()]
    right = source[node.right.col_offset - len(opening) : _end(node)].lstrip()
    return [*first, f"{operator} {right}"]


def _precedence(operator: ast.operator) -> int:
    return 1 if isinstance(operator, ast.Add | ast.Sub) else 2


def _segment(source: str, node: ast.expr) -> str:
    return source[node.col_offset : _end(node)]


def _end(node: ast.expr) -> int:
    assert node.end_col_offset is not None
    return node.end_col_offset
