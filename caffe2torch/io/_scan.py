"""Fields of prototxt text that the schema does not know, found before the text is parsed.

Such a field must not pass unseen, but neither should it keep a net from being read when it
stands in a layer that is not even used. So it is blanked out of the text, and noted for the
message that it stands in: whoever uses that layer refuses it then.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

from caffe2torch.errors import ReadError

NOTES_FIELD = "unknown_field"
"""The field, of messages that have it, for the notes. Text cannot set it."""

_SKIP = re.compile(r"(?:[ \t\r\n\f\v]+|#[^\n]*)*")
_TOKEN = re.compile(
    r"""
    "[^"\\\n]*(?:\\.[^"\\\n]*)*"  |
    '[^'\\\n]*(?:\\.[^'\\\n]*)*'  |
    [\w.+-]+                      |
    [{}<>\[\]:,;]
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"""\\(?:(?P<bad>[4-7][0-7]{2}|[^abfnrtvxuU0-7\\'"])|.)""")
_NAME = re.compile(r"[A-Za-z_][\w.+-]*", re.ASCII)
_CLOSE = {"{": "}", "<": ">", "[": "]"}
_MAX_BACKSLASHES = 256
_MAX_DEPTH = 100
_MAX_REPEATS = 20_000
_MAX_UNKNOWN = 5000
_MAX_BLANKS = 10_000
_BLANKS = re.compile(rf"[ \t\r\f\v]{{{_MAX_BLANKS}}}")
_LINE_PART = re.compile(r"[^\n]+")
_MAX_NOTES = 20  # Of one message: enough to act on.

Path = tuple[tuple[str, int], ...]
"""From the outermost message to one within: fields, each with its index if it is repeated."""


class Text:
    """Prototxt text; ``source`` names it in errors."""

    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source

    @cached_property
    def _line_ends(self) -> list[int]:
        return [match.start() for match in re.finditer("\n", self.text)]

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, counted from 1."""
        line = bisect_left(self._line_ends, offset)
        start = self._line_ends[line - 1] + 1 if line else 0
        return line + 1, offset - start + 1

    def fail(self, offset: int, cause: str) -> NoReturn:
        """Raise the error that ``cause`` was met at ``offset``."""
        line, column = self.place(offset)
        raise ReadError(f"{self.source}:{line}:{column}: {cause}")


@dataclass
class _Frame:
    """A message that the scan is within, or a list of messages."""

    type: Any
    close: str
    start: int
    path: Path = ()
    owner: Path | None = None
    prefix: str = ""
    item: str | None = None
    counts: Counter[str] = field(default_factory=Counter)


class _ParserSaysError(Exception):
    """The text is wrong here, in a way that the parser tells better."""


def scan(text: Text, descriptor: Any) -> tuple[str, dict[Path, list[str]]]:
    """The text without unknown fields, and notes of them by the path of their message."""
    return _Scan(text).run(descriptor)


class _Scan:
    def __init__(self, text: Text) -> None:
        self.text = text
        self.pos = 0
        self.known = io.StringIO()
        self.done = 0
        self.unknown = 0
        self.notes: dict[Path, list[str]] = {}
        self.stack: list[_Frame] = []

    def run(self, descriptor: Any) -> tuple[str, dict[Path, list[str]]]:
        owner: Path | None = () if NOTES_FIELD in descriptor.fields_by_name else None
        self.stack.append(_Frame(descriptor, "", 0, owner=owner))
        try:
            while self._step():
                pass
        except _ParserSaysError:
            pass
        self.known.write(self.text.text[self.done :])
        return self.known.getvalue(), self.notes

    def _step(self) -> bool:
        """Read a field, or the end of a message; False at the end of the text."""
        frame = self.stack[-1]
        start, token = self._next()
        if token == frame.close:
            if token:
                self._close()
            return bool(token)
        if not token:
            self.text.fail(
                frame.start, f"this bracket is never closed; add the missing {frame.close!r}"
            )
        if token in ("}", ">", "]"):
            self._fail_bracket(frame, start, token)
        if frame.item is not None:
            self._list_item(frame, start, token)
        else:
            self._field(frame, start, token)
        return True

    def _close(self) -> None:
        closed = self.stack.pop()
        if closed.item is None or self.stack[-1].item is None:
            self._separator()

    def _fail_bracket(self, frame: _Frame, start: int, token: str) -> NoReturn:
        if not frame.close:
            self.text.fail(start, f"{token!r} closes nothing; remove it, or add what it closes")
        line, column = self.text.place(frame.start)
        self.text.fail(
            start,
            f"{token!r} stands here, but the bracket of line {line}, column {column} is to be "
            f"closed by {frame.close!r}; one of the two is wrong",
        )

    def _list_item(self, frame: _Frame, start: int, token: str) -> None:
        if token in ("{", "<") and frame.item is not None:
            self._open(frame, frame.item, start, token)
        elif token != ",":
            raise _ParserSaysError

    def _field(self, frame: _Frame, start: int, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise _ParserSaysError
        known = frame.type.fields_by_name.get(name)
        if known is None or name == NOTES_FIELD:
            self._skip_value()
            self._note(frame, name, start)
        elif known.message_type is not None:
            self._message(frame, known)
        else:
            self._scalar(frame, known, start)

    def _message(self, frame: _Frame, known: Any) -> None:
        start, token = self._next()
        if token == ":":
            start, token = self._next()
        if token == "[":
            self.stack.append(
                _Frame(frame.type, "]", start, frame.path, frame.owner, frame.prefix, known.name)
            )
            self.stack[-1].counts = frame.counts
        elif token in ("{", "<"):
            self._open(frame, known.name, start, token)
        else:
            raise _ParserSaysError

    def _open(self, frame: _Frame, name: str, start: int, token: str) -> None:
        known = frame.type.fields_by_name[name]
        path = (*frame.path, (name, frame.counts[name]))
        frame.counts[name] += 1
        if frame.counts[name] > _MAX_REPEATS:
            self.text.fail(start, f"more than {_MAX_REPEATS} times {name!r}; this is no net")
        inner = _Frame(known.message_type, _CLOSE[token], start, path)
        if NOTES_FIELD in known.message_type.fields_by_name:
            inner.owner = path
        else:
            inner.owner, inner.prefix = frame.owner, f"{frame.prefix}{name}."
        self.stack.append(inner)

    def _scalar(self, frame: _Frame, known: Any, start: int) -> None:
        values = self._skip_value(scalar=True)
        if known.enum_type is None:
            return
        for value in values:
            if _is_unknown(known.enum_type, value):
                self._note(frame, f"{known.name}: {value}", start)
                return

    def _skip_value(self, scalar: bool = False) -> list[str]:
        """Pass a field's value and return its tokens; of a message no tokens."""
        _, token = self._next()
        colon = token == ":"
        if colon:
            _, token = self._next()
        if token == "[" or (token in ("{", "<") and not scalar):
            values = self._skip_brackets(token)
        elif colon and token and token not in "{}<>[]:,;":
            values = [token]
            if token[0] in "\"'":
                self._skip_strings()
            elif token in ("-", "+"):
                values.append(self._next()[1])
        else:
            raise _ParserSaysError
        self._separator()
        return values

    def _skip_strings(self) -> None:
        """Pass the strings that continue the one before."""
        while self._peek()[:1] in ('"', "'"):
            self._next()

    def _skip_brackets(self, token: str) -> list[str]:
        is_list = token == "["
        values: list[str] = []
        open_brackets = [(self.pos - 1, _CLOSE[token])]
        while open_brackets:
            start, token = self._next()
            opened, close = open_brackets[-1]
            if not token:
                self.text.fail(opened, f"this bracket is never closed; add the missing {close!r}")
            if token in _CLOSE:
                open_brackets.append((start, _CLOSE[token]))
                if len(open_brackets) > _MAX_DEPTH:
                    self.text.fail(start, "brackets are nested too deeply here; no net's are")
            elif token == close:
                open_brackets.pop()
            elif token in ("}", ">", "]"):
                self._fail_bracket(_Frame(None, close, opened), start, token)
            elif is_list and token != ",":
                values.append(token)
        return values

    def _separator(self) -> None:
        if self._peek() in (",", ";") and self.stack[-1].item is None:
            self._next()

    def _note(self, frame: _Frame, what: str, start: int) -> None:
        line, column = self.text.place(start)
        what = frame.prefix + (what if len(what) <= 80 else what[:80] + "...")
        if frame.owner is None:
            self.text.fail(
                start, f"{what!r} is not known in Caffe's schema; correct or remove the field"
            )
        notes = self.notes.setdefault(frame.owner, [])
        if len(notes) < _MAX_NOTES:
            notes.append(f"{what} (line {line}, column {column})")
        skipped = self.text.text[start : self.pos]
        self.known.write(self.text.text[self.done : start])
        self.known.write(_LINE_PART.sub(lambda part: " " * min(len(part[0]), 100), skipped))
        self.unknown += 1
        if self.unknown > _MAX_UNKNOWN:
            self.text.fail(start, f"more than {_MAX_UNKNOWN} unknown fields; this is no net")
        self.done = self.pos

    def _peek(self) -> str:
        pos = self.pos
        token = self._next()[1]
        self.pos = pos
        return token

    def _next(self) -> tuple[int, str]:
        """Offset and text of the next token; the text is empty at the end."""
        text = self.text.text
        skip = _SKIP.match(text, self.pos)
        start = skip.end() if skip else self.pos
        if start - self.pos > _MAX_BLANKS and _BLANKS.search(text, self.pos, start):
            # The memory that protobuf's parser takes for them is a hundred times theirs.
            self.text.fail(self.pos, f"{_MAX_BLANKS} blanks in a row; remove them")
        if start == len(text):
            self.pos = start
            return start, ""
        match = _TOKEN.match(text, start)
        if match is None:
            self._fail_character(start, text[start])
        self.pos = match.end()
        token = match.group()
        if token[0] in "\"'":
            self._check_string(start, token)
        return start, token

    def _check_string(self, start: int, token: str) -> None:
        if not token.isascii() and any("\ud800" <= char <= "\udfff" for char in token):
            self.text.fail(start, "this string is not UTF-8; save the file in UTF-8")
        if "\\" * _MAX_BACKSLASHES in token:
            # The time that protobuf's parser takes for them grows with their number squared.
            self.text.fail(start, f"this string has {_MAX_BACKSLASHES} backslashes in a row")
        for escape in _ESCAPE.finditer(token) if "\\" in token else ():
            if escape["bad"]:
                self.text.fail(
                    start + escape.start(),
                    f"{escape.group()!a} stands for nothing; write a backslash as two",
                )

    def _fail_character(self, start: int, character: str) -> NoReturn:
        if character in "\"'":
            self.text.fail(start, "this string is not closed on its line; add the missing quote")
        self.text.fail(start, f"{character!a} cannot stand here; remove it, or put it in quotes")


def _is_unknown(enum: Any, value: str) -> bool:
    """Whether ``value`` is the name or number of an enum value, but not one of ``enum``."""
    if _NAME.fullmatch(value):
        return value not in enum.values_by_name
    try:
        return int(value, 0) not in enum.values_by_number
    except ValueError:
        return False
