"""The scan of a prototxt before protobuf's parser reads it: unknown fields, places, bad text.

A field that the schema does not know must not pass unseen, but neither should it keep a net from
being read when it stands in a layer that is not even used. So it is blanked out of the text, and
kept as an UnknownField of the message that it stands in. The rest is for the parser to judge, but
for brackets, characters and escapes, of which its errors say too little, and for text that would
take all memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from caffe2torch.errors import ReadError
from caffe2torch.io.schema import FIRST_PRIVATE, Message, message_class

NOTES_FIELD = "unknown_field"
"""The field, of messages that have it, for what the schema does not know."""

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
_PLACE_HOLDER = re.compile(r"\$\{?\w+\}?\$?|\{\{.*?\}\}|\{%.*?%\}|<%.*?%>", re.ASCII)
"""What stands for a value in templates: FlowNet's $WIDTH$, Jinja's {{ width }}."""
_NAME = re.compile(r"[A-Za-z_][\w.+-]*", re.ASCII)
_CLOSE = {"{": "}", "<": ">", "[": "]"}
_MAX_BACKSLASHES = 256
_REPEATED_BY_FORKS = ("transform_param.", "pooling_param.")
"""Messages in which forks repeat what Caffe has once: data layers do not mind, and layers of
forks declare what they pool with (PoolingND)."""
_MAX_DEPTH = 100
_MAX_REPEATS = 20_000
_MAX_UNKNOWN = 5000
_MAX_BLANKS = 10_000
_BLANKS = re.compile(rf"[ \t\r\f\v]{{{_MAX_BLANKS}}}")
_LINE_PART = re.compile(r"[^\n]+")

Path = tuple[tuple[str, int], ...]
"""From the outermost message to one within: fields, each with its index if it is repeated."""


def scan(text: str, descriptor: Any, source: str, first: tuple[int, int]) -> Scan:
    """Scan the text of a message of ``descriptor``; where protobuf's parser fails, it ends.

    ``source`` names the text in errors, ``first`` is the line and column of its beginning. Unknown
    fields are noted in the messages that have ``unknown_field``; elsewhere they are a ReadError.
    """
    result = Scan(text, source, first)
    owner: Path | None = () if _has_notes(descriptor) else None
    with suppress(_LeftToTheParserError):
        result.take()
        result.fields(_Message(descriptor, (), owner, ""), "")
    return result


class _LeftToTheParserError(Exception):
    """The text is wrong here, in a way that the parser tells better."""


@dataclass
class _Message:
    """A message of the text; ``owner`` is the one around it, or itself, that has the notes."""

    type: Any
    path: Path
    owner: Path | None
    prefix: str
    counts: Counter[str] = field(default_factory=Counter)


class Scan:
    """Reads the text once, one token ahead; recurses as deeply as the schema does.

    Attributes:
        notes: the unknown fields, by the path of the message that keeps them.
        places: ``file:line:column`` of each message that can keep some, by its path.
    """

    def __init__(self, text: str, source: str, first: tuple[int, int]) -> None:
        self.text, self.source, self.first = text, source, first
        self._tokens = self._read_tokens()
        self._start, self._token = 0, ""
        self._known: list[str] = []
        self._done = self._unknown = self._last_end = 0
        self._counted = self._line = 0
        self.notes: dict[Path, list[Message]] = {}
        self.places: dict[Path, str] = {}

    @property
    def readable(self) -> str:
        """The text for protobuf's parser: unknown fields are blank."""
        return "".join(self._known) + self.text[self._done :]

    def fields(self, message: _Message, close: str) -> None:
        """The fields of a message up to its closing bracket, or to the end of the text."""
        while self._token != close:
            start, name = self._start, self.take()
            known = message.type.fields_by_name.get(name)
            if not _NAME.fullmatch(name):
                raise _LeftToTheParserError
            is_private = known is not None and known.number >= FIRST_PRIVATE
            again = message.counts[name] and known is not None and not _repeats(known)
            by_fork = again and message.prefix in _REPEATED_BY_FORKS
            if known is None or by_fork or (is_private and _has_notes(message.type)):
                self._value()
                self._note(message, name, start)
            elif known.message_type is not None:
                self._messages(message, known, start)
            else:
                message.counts[name] += 1
                values = self._value(scalar=True)
                odd = [v for v in values if known.enum_type and _is_unknown(known.enum_type, v)]
                if odd:
                    self._note(message, name, start)
        self.take()

    def take(self) -> str:
        """The token that is looked at; the next one is looked at then."""
        token, self._last_end = self._token, self._start + len(self._token)
        self._start, self._token = next(self._tokens)
        return token

    def _messages(self, outer: _Message, known: Any, start: int) -> None:
        """One message, or a list of them, of the field that begins at ``start``."""
        if self._token == ":":
            self.take()
        if self._token != "[":
            self._message(outer, known, start)
        else:
            self.take()
            while self._token != "]":
                if self._token == ",":
                    self.take()
                else:
                    self._message(outer, known, self._start)
            self.take()
        self._separator()

    def _message(self, outer: _Message, known: Any, start: int) -> None:
        if self._token not in ("{", "<"):
            raise _LeftToTheParserError
        path = (*outer.path, (known.name, outer.counts[known.name]))
        outer.counts[known.name] += 1
        if outer.counts[known.name] > _MAX_REPEATS:
            self._fail(
                self._start, f"more than {_MAX_REPEATS} times {known.name!r}; this is no net"
            )
        owner, prefix = outer.owner, f"{outer.prefix}{known.name}."
        if _has_notes(known.message_type):
            owner, prefix = path, ""
            self.places[path] = "{}:{}:{}".format(self.source, *self._place(start))
        self.fields(_Message(known.message_type, path, owner, prefix), _CLOSE[self.take()])

    def _value(self, scalar: bool = False) -> list[str]:
        """Pass a field's value and return its tokens; of what is no scalar the first."""
        colon = self._token == ":"
        if colon:
            self.take()
        if self._token == "[" or (self._token in ("{", "<") and not scalar):
            values, depth = [self.take()], 1
            while depth:
                token = self._signed() if scalar else self.take()
                depth += (token in _CLOSE) - (token in _CLOSE.values())
                if scalar:
                    values.append(token)
        elif colon and self._token and self._token not in "{}<>[]:,;":
            values = [self._signed() if scalar else self.take()]
            if values[0] in ("-", "+"):
                values.append(self.take())
            while values[0][0] in "\"'" and self._token[:1] in ('"', "'"):
                self.take()  # A string that continues the one before.
        else:
            raise _LeftToTheParserError
        self._separator()
        return values

    def _signed(self) -> str:
        """Take a token. To protobuf a minus may stand apart from its number; not to its parser."""
        start, token = self._start, self.take()
        if token == "-":
            self._known += [self.text[self._done : start], self.text[start + 1 : self._start], "-"]
            self._done = self._start
        return token

    def _separator(self) -> None:
        if self._token in (",", ";"):
            self.take()

    def _note(self, message: _Message, name: str, start: int) -> None:
        line, column = self._place(start)
        text = self.text[start : self._last_end].rstrip(" \t\r\n,;")
        if message.owner is None:
            shown = name if message.type.fields_by_name.get(name) is None else text
            self._fail(
                start,
                f"{message.prefix + shown[:80]!r} is not known in Caffe's schema; correct or "
                "remove the field",
            )
        note = message_class("UnknownField")(
            parent=message.prefix.rstrip("."), name=name, text=text, line=line, column=column
        )
        self.notes.setdefault(message.owner, []).append(note)
        self._unknown += 1
        if self._unknown > _MAX_UNKNOWN:
            self._fail(start, f"more than {_MAX_UNKNOWN} unknown fields; this is no net")
        skipped = self.text[start : self._last_end]
        blank = _LINE_PART.sub(lambda part: " " * min(len(part[0]), 100), skipped)
        self._known += [self.text[self._done : start], blank]
        self._done = self._last_end

    def _read_tokens(self) -> Iterator[tuple[int, str]]:
        """Offset and text of each token; the text is empty at the end. All brackets match."""
        text, pos = self.text, 0
        opened: list[tuple[int, str]] = []
        while True:
            skip = _SKIP.match(text, pos)
            start = skip.end() if skip else pos
            if start - pos > _MAX_BLANKS and _BLANKS.search(text, pos, start):
                # The memory that protobuf's parser takes for them is a hundred times theirs.
                self._fail(pos, f"{_MAX_BLANKS} blanks in a row; remove them")
            if text[start : start + 1] in ("$", "{", "<") and (
                place := _PLACE_HOLDER.match(text, start)
            ):
                self._fail(
                    start,
                    f"{place[0][:80]} stands for something that a program writes there: this is a "
                    "template; write the value in its place, or give the file that was made of it",
                )
            match = _TOKEN.match(text, start)
            token = match[0] if match else ""
            if not token and start < len(text):
                cause = f"{text[start]!a} cannot stand here; remove it, or put it in quotes"
                if text[start] in "\"'":
                    cause = "this string is not closed on its line; add the missing quote"
                self._fail(start, cause)
            if token[:1] in ('"', "'"):
                self._check_string(start, token)
            elif token in _CLOSE:
                opened.append((start, _CLOSE[token]))
                if len(opened) > _MAX_DEPTH:
                    self._fail(start, "brackets are nested too deeply here; no net's are")
            elif token in _CLOSE.values() or not token:
                self._check_close(start, token, *(opened.pop() if opened else (0, "")))
            yield start, token
            pos = start + len(token)

    def _check_close(self, start: int, token: str, opened: int, close: str) -> None:
        """Refuse a bracket, or the end of the text, where the one ``opened`` awaits ``close``."""
        if token == close:
            return
        if not token:
            self._fail(opened, f"this bracket is never closed; add the missing {close!r}")
        if not close:
            self._fail(start, f"{token!r} closes nothing; remove it, or add what it closes")
        line, column = self._place(opened)
        self._fail(
            start,
            f"{token!r} stands here, but the bracket of line {line}, column {column} is "
            f"to be closed by {close!r}; one of the two is wrong",
        )

    def _check_string(self, start: int, token: str) -> None:
        if not token.isascii() and any("\ud800" <= char <= "\udfff" for char in token):
            self._fail(start, "this string is not UTF-8; save the file in UTF-8")
        if "\\" * _MAX_BACKSLASHES in token:
            # The time that protobuf's parser takes for them grows with their number squared.
            self._fail(start, f"this string has {_MAX_BACKSLASHES} backslashes in a row")
        for escape in _ESCAPE.finditer(token) if "\\" in token else ():
            if escape["bad"]:
                self._fail(
                    start + escape.start(),
                    f"{escape.group()!a} stands for nothing; write a backslash as two",
                )

    def _place(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, counted from 1. Offsets mostly grow from call to call."""
        if offset < self._counted:
            self._counted = self._line = 0
        self._line += self.text.count("\n", self._counted, offset)
        self._counted = offset
        return self.shifted(self._line + 1, offset - self.text.rfind("\n", 0, offset))

    def shifted(self, line: int, column: int) -> tuple[int, int]:
        """Line and column in the whole text of those in the part that is read."""
        return self.first[0] + line - 1, column + (self.first[1] - 1 if line == 1 else 0)

    def _fail(self, offset: int, cause: str) -> NoReturn:
        line, column = self._place(offset)
        raise ReadError(f"{self.source}:{line}:{column}: {cause}")


def _repeats(known: Any) -> bool:
    """Whether a field may be given more than once; protobuf before 6.31 says it otherwise."""
    return bool(known.is_repeated if hasattr(known, "is_repeated") else known.label == 3)


def _has_notes(descriptor: Any) -> bool:
    """Whether unknown fields within such a message are kept in it."""
    return NOTES_FIELD in descriptor.fields_by_name


def _is_unknown(enum: Any, value: str) -> bool:
    """Whether ``value`` is the name or number of an enum value, but not one of ``enum``."""
    if _NAME.fullmatch(value):
        return value not in enum.values_by_name
    try:
        return int(value, 0) not in enum.values_by_number
    except ValueError:
        return False
