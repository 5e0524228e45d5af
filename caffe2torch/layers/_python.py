"""Python expressions as text, for the lowering to source."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np


def call(function: str, *arguments: Any, **keywords: Any) -> str:
    """``function(arguments, keywords)``; a string is an expression, anything else a value."""
    given = [_argument(value) for value in arguments]
    given += [f"{name}={_argument(value)}" for name, value in keywords.items()]
    return f"{function}({', '.join(given)})"


def literal(value: Any) -> str:
    """``value`` as Python: a number, boolean, None, a string, or a sequence of them.

    A float is the shortest decimal that is the same number in float32, in which the layers
    compute: the fields of a net are float32, and 1e-05 is how its author wrote them.
    """
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, str):
        return quote(value)
    items = [literal(item) for item in value]
    if isinstance(value, list):
        return f"[{', '.join(items)}]"
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def exact(value: Any) -> str:
    """``value``, numbers in sequences, with all digits: for arithmetic in float64."""
    if isinstance(value, float | int):
        return _digits(value) if isfinite(value) else _float(value)
    items = [exact(item) for item in value]
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


def quote(text: str) -> str:
    """``text`` as a string literal of ASCII characters, in the quotes that formatters choose."""
    mark = "'" if text.count('"') > text.count("'") else '"'
    body = text.encode("unicode_escape").decode("ascii")
    return mark + body.replace(mark, "\\" + mark) + mark


def per_axis(values: Sequence[int]) -> int | tuple[int, ...]:
    """A size for each axis as torch takes it: one number where all are equal."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def trailing(expression: str, count: int) -> str:
    """``expression``, a tensor, with ``count`` axes of size 1 appended."""
    return f"{expression}[{', '.join(['...'] + ['None'] * count)}]" if count else expression


def scaled(x: str, scale: float, shift: float) -> str:
    """``scale * x + shift`` without the steps that change nothing; ``x`` binds tightly."""
    if scale != 1:
        x = f"{x} * {literal(scale)}"
    if not shift:
        return x
    return f"{x} - {literal(-shift)}" if shift < 0 else f"{x} + {literal(shift)}"


def _argument(value: Any) -> str:
    return value if isinstance(value, str) else literal(value)


def _float(value: float) -> str:
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if np.isnan(single):
        return "math.nan"
    if np.isinf(single):
        return "math.inf" if single > 0 else "-math.inf"
    return _digits(float(str(single)))


def _digits(value: float) -> str:
    """``repr`` as formatters write it, without the sign of a positive exponent."""
    return repr(value).replace("e+", "e")
