"""The parameters of Python layers: text that each layer reads in a way of its own."""

from __future__ import annotations

import re
from typing import Any

from caffe2torch.io.schema import Message
from caffe2torch.layers._base import net_error

FIELD = "python_param.param_str"

_SPACE = re.compile(r"(?:\s|#[^\n]*)*")
_SAME_LINE = re.compile(r"[ \t]*(?:#[^\n]*)?")
_TAG = re.compile(r"!!?[\w/.:]+\s*")
_QUOTED = re.compile(r"[uUrRbB]?(?:'((?:[^'\\\n]|\\.|'')*)'|\"((?:[^\"\\\n]|\\.)*)\")")
_PLAIN = re.compile(r"[^\[\]{}(),:#\n]+(?::(?=[^\s])[^\[\]{}(),:#\n]*)*")
_LINE = re.compile(r"[^\n#]*[^\n#\s]")
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_INTEGER = re.compile(r"[-+]?\d+")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_WORDS = {"true": True, "yes": True, "false": False, "no": False, "null": None, "none": None}


def python_params(proto: Message) -> dict[str, Any]:
    """``python_param.param_str`` of a Python layer as a dict; empty text is an empty one.

    Layers read theirs with ``yaml.load``, ``json.loads`` or ``eval``. What the three have in
    common is understood, and nothing is executed: one mapping in braces, or a line
    ``key: value`` an entry. Values are numbers, words (true, no, None), strings with or without
    quotes, and lists, tuples (both become lists) and mappings of these; YAML's tags are passed
    over, and a list may stand in lines of ``- value``. Raises NetError for anything else.
    """
    return _Reader(proto).mapping()


class _Reader:
    def __init__(self, proto: Message) -> None:
        self.proto = proto
        self.text: str = proto.python_param.param_str
        self.at = 0

    def mapping(self) -> dict[str, Any]:
        self._skip(_SPACE)
        found: Any = self._value() if self._next() == "{" else self._lines()
        self._skip(_SPACE)
        if self.at < len(self.text) or not isinstance(found, dict):
            raise self._error()
        return found

    def _lines(self) -> dict[str, Any]:
        """Entries ``key: value``, one a line."""
        found: dict[str, Any] = {}
        while self.at < len(self.text):
            key = self._key()
            self._skip(_SAME_LINE)
            if self._next() in ("", "\n"):
                found[key] = self._items()
                continue
            if self._next() in "[{('\"!":
                found[key] = self._value()
            else:
                found[key] = _scalar(self._take(_LINE))
            self._skip(_SAME_LINE)
            if self._next() not in ("", "\n"):
                raise self._error()
            self._skip(_SPACE)
        return found

    def _items(self) -> list[Any] | None:
        """The values of lines ``- value``; None if there are none, as in YAML."""
        found = []
        self._skip(_SPACE)
        while re.compile(r"-\s").match(self.text, self.at):
            self.at += 1
            self._skip(_SAME_LINE)
            flow = self._next() != "" and self._next() in "[{('\"!"
            found.append(self._value() if flow else _scalar(self._take(_LINE)))
            self._skip(_SPACE)
        return found or None

    def _key(self) -> str:
        quoted = _QUOTED.match(self.text, self.at)
        key = self._string() if quoted else self._take(_PLAIN).strip()
        self._skip(_SPACE)
        if self._next() != ":":
            raise self._error()
        self.at += 1
        return key

    def _value(self) -> Any:
        """A value that may span lines: of a list or mapping, or such itself."""
        self._skip(_SPACE)
        self._skip(_TAG)
        if _QUOTED.match(self.text, self.at):
            return self._string()
        opening = self._next()
        if not opening or opening not in _CLOSING:
            return _scalar(self._take(_PLAIN).strip())
        self.at += 1
        pairs: dict[str, Any] = {}
        values: list[Any] = []
        self._skip(_SPACE)
        while self._next() != _CLOSING[opening]:
            if opening == "{":
                key = self._key()
                pairs[key] = self._value()
            else:
                values.append(self._value())
            self._skip(_SPACE)
            if self._next() == ",":
                self.at += 1
                self._skip(_SPACE)
            elif self._next() != _CLOSING[opening]:
                raise self._error()
        self.at += 1
        return pairs if opening == "{" else values

    def _string(self) -> str:
        match = _QUOTED.match(self.text, self.at)
        assert match
        self.at = match.end()
        single, double = match.groups()
        return (single if double is None else double).replace("''", "'").replace("\\'", "'")

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if not match:
            raise self._error()
        self.at = match.end()
        return match.group()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _error(self) -> Exception:
        line = self.text.count("\n", 0, self.at) + 1
        column = self.at - (self.text.rfind("\n", 0, self.at) + 1) + 1
        return net_error(
            self.proto,
            f"{self.text!r} is not understood at line {line}, column {column} of it. Write a "
            "mapping, {'name': value, ...}, or a line `name: value` for each.",
            FIELD,
        )


def _scalar(text: str) -> Any:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return _WORDS.get(text.lower(), text)
