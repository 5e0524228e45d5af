"""Python expressions that note what is done to them: how a torch form becomes source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

COMPARISON, OR, AND, SUM, PRODUCT, UNARY, POWER, ATOM = range(8)
"""How tightly an expression binds, the loosest first."""


class NotRecordableError(TypeError):
    """A torch form did what has no counterpart in the text of an expression."""


def _binary(symbol: str, level: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The methods of an operator that groups to the left, and of its mirror image."""
    first = level + (level == COMPARISON)  # Python chains comparisons: a < b < c.

    def left(self: Expression, other: Any) -> Expression:
        return Expression(f"{operand(self, first)} {symbol} {operand(other, level + 1)}", level)

    def right(self: Expression, other: Any) -> Expression:
        return Expression(f"{operand(other, level)} {symbol} {operand(self, level + 1)}", level)

    return left, right


class Expression:
    """The text of an expression, and how tightly it binds.

    Operators, calls, attributes and indices make longer expressions, with parentheses where
    Python needs them. An expression has no value: it is neither true nor false, and it
    cannot be looped over.
    """

    def __init__(self, text: str, level: int = ATOM) -> None:
        self._text, self._level = text, level

    def __repr__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Expression:
        if name.startswith("__"):
            raise AttributeError(name)
        return Expression(f"{operand(self, ATOM)}.{name}")

    def __getitem__(self, index: Any) -> Expression:
        parts = index if isinstance(index, tuple) else (index,)
        return Expression(f"{operand(self, ATOM)}[{', '.join(map(_index, parts))}]")

    def __call__(self, *arguments: Any, **keywords: Any) -> Expression:
        """A call of this expression."""
        texts = [text_of(value) for value in arguments]
        texts += [f"{name}={text_of(value)}" for name, value in keywords.items()]
        return Call(operand(self, ATOM), texts)

    def __add__(self, other: Any) -> Expression:
        if isinstance(other, float | int) and other < 0:
            return Expression(f"{operand(self, SUM)} - {operand(-other, SUM + 1)}", SUM)
        return Expression(f"{operand(self, SUM)} + {operand(other, SUM + 1)}", SUM)

    def __neg__(self) -> Expression:
        return Expression(f"-{operand(self, UNARY)}", UNARY)

    def __invert__(self) -> Expression:
        return Expression(f"~{operand(self, UNARY)}", UNARY)

    def __pow__(self, other: Any) -> Expression:
        base, exponent = operand(self, ATOM), operand(other, UNARY)
        # Formatters write a power of names and numbers without spaces.
        symbol = "**" if re.fullmatch(r"[\w.]+ -?[\w.]+", f"{base} {exponent}") else " ** "
        return Expression(f"{base}{symbol}{exponent}", POWER)

    __radd__ = _binary("+", SUM)[1]
    __sub__, __rsub__ = _binary("-", SUM)
    __mul__, __rmul__ = _binary("*", PRODUCT)
    __truediv__, __rtruediv__ = _binary("/", PRODUCT)
    __floordiv__, __rfloordiv__ = _binary("//", PRODUCT)
    __mod__, __rmod__ = _binary("%", PRODUCT)
    __matmul__, __rmatmul__ = _binary("@", PRODUCT)
    __and__, __rand__ = _binary("&", AND)
    __or__, __ror__ = _binary("|", OR)
    __lt__, __gt__ = _binary("<", COMPARISON)[0], _binary(">", COMPARISON)[0]
    __le__, __ge__ = _binary("<=", COMPARISON)[0], _binary(">=", COMPARISON)[0]
    __eq__, __ne__ = _binary("==", COMPARISON)[0], _binary("!=", COMPARISON)[0]
    __hash__ = None  # type: ignore[assignment]  # Equality is an expression too.

    def __bool__(self) -> bool:
        raise NotRecordableError(
            f"it decides by the value of {self}, which is known at run time only"
        )

    def __iter__(self) -> Any:
        raise NotRecordableError(f"it loops over {self}, whose length is known at run time only")

    def __len__(self) -> int:
        raise NotRecordableError(
            f"it takes len({self}); the number of axes is that of the declared bottoms"
        )


class Call(Expression):
    """A call, with its function and arguments kept apart."""

    def __init__(self, function: str, arguments: Sequence[str]) -> None:
        super().__init__(f"{function}({', '.join(arguments)})")
        self._function, self._arguments = function, tuple(arguments)

    def applied_to(self, function: str, inputs: Sequence[Expression]) -> Expression:
        """``function`` of ``inputs`` and of the arguments of this call."""
        return Call(function, (*map(text_of, inputs), *self._arguments))

    @property
    def called(self) -> str:
        """The function's name. No tensor has an attribute ``called`` or ``applied_to``."""
        return self._function


class Function(Expression):
    """A function or class whose defaults are known: arguments equal to them are not written."""

    def __init__(self, name: str, defaults: Mapping[str, str], names: Sequence[str] = ()) -> None:
        super().__init__(name)
        self._defaults, self._names = defaults, names

    def __call__(self, *arguments: Any, **keywords: Any) -> Expression:
        """A call without the last arguments and the keywords that equal their defaults."""
        given = list(arguments)
        names = list(self._names[: len(given)])
        while names and len(names) == len(given) and self._is_default(names[-1], given[-1]):
            del names[-1], given[-1]
        keywords = {k: v for k, v in keywords.items() if not self._is_default(k, v)}
        return super().__call__(*given, **keywords)

    def _is_default(self, name: str, value: Any) -> bool:
        return text_of(value) == self._defaults.get(name)


class Constructor(Function):
    """A class of torch.nn. A size that is the same on each axis is written as one number."""

    def __call__(self, *arguments: Any, **keywords: Any) -> Expression:
        """As Function's."""
        given = {name: _per_axis(value) for name, value in keywords.items()}
        return super().__call__(*map(_per_axis, arguments), **given)


class Namespace:
    """Attributes of any name, each made by a function of the name."""

    def __init__(self, make: Callable[[str], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return self._make(name)


def text_of(value: Any) -> str:
    """The text of an expression, number, boolean, None, string, or of a sequence of them.

    A float is the shortest decimal that is the same number in float32, in which the layers
    compute: the fields of a net are float32, and 1e-05 is how its author wrote them.
    """
    if isinstance(value, Expression | bool) or value is None:
        return repr(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, np.ndarray):
        raise NotRecordableError("it computes with an array that a file of its own holds")
    if isinstance(value, list):
        return f"[{', '.join(map(text_of, value))}]"
    return _tuple(map(text_of, value))


def operand(value: Any, level: int) -> str:
    """The text of ``value``, in parentheses if it binds less tightly than ``level``."""
    text = text_of(value)
    negative = UNARY if text.startswith("-") else ATOM
    own = value._level if isinstance(value, Expression) else negative
    return text if own >= level else f"({text})"


def _index(value: Any) -> str:
    if value is Ellipsis:
        return "..."
    if not isinstance(value, slice):
        return text_of(value)
    parts = ["" if v is None else text_of(v) for v in (value.start, value.stop)]
    parts += [] if value.step is None else [text_of(value.step)]
    if all(re.fullmatch(r"-?[\w.]*", text) for text in parts):
        return ":".join(parts)
    return " : ".join(parts).strip().replace(":  :", "::")


def _per_axis(value: Any) -> Any:
    if isinstance(value, tuple) and value and all(v is value[0] or v == value[0] for v in value):
        return value[0]
    return value


def exact(value: Any) -> Expression:
    """``value``, numbers in sequences, with all digits: for arithmetic in float64."""
    if isinstance(value, float | int):
        text = _digits(value) if isfinite(value) else _float(value)
        return Expression(text, UNARY if text.startswith("-") else ATOM)
    return Expression(_tuple(repr(exact(item)) for item in value))


def _tuple(items: Iterable[str]) -> str:
    texts = list(items)
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def quote(text: str) -> str:
    """``text`` as a string literal of ASCII characters, in the quotes that formatters choose."""
    mark = "'" if text.count('"') > text.count("'") else '"'
    body = text.encode("unicode_escape").decode("ascii")
    return mark + body.replace(mark, "\\" + mark) + mark


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
