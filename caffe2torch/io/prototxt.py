"""Prototxt text to messages, with errors as ``file:line:column: cause``.

Fields that the schema does not know are found before the text is parsed. Such a field must not
pass unseen, but neither should it keep a net from being read when it stands in a layer that is
not even used. So it is blanked out of the text, and kept as an UnknownField of the message that
it stands in: the layer's type may know it, and whoever uses that layer refuses it else. The
rest is for protobuf's own parser to judge, but for brackets, characters and escapes, of which its
errors say too little, and for text that would take all memory.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, MutableSequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn

from google.protobuf import text_format

from caffe2torch.errors import ReadError
from caffe2torch.io.files import Source, name_of, open_file, other_kind, text_of
from caffe2torch.io.schema import FIRST_PRIVATE, Message, message_class

_PLAIN = (
    (
        r'Message type "caffe\.\w+" should not have multiple "(\w+)" fields',
        "the field {!r} is given twice; keep one of the two",
    ),
    (
        r'Message type "caffe\.(\w+)" has no field named "(.*)"',
        "a {} has no field {!r}; correct or remove it",
    ),
    (r"Couldn't parse integer: (.*)", "{!r} is not a whole number; give one"),
    (r"Couldn't parse float: (.*)", "{!r} is not a number; give one"),
    (r"Value out of range: (.*)", "{} is out of the range that this field can hold; correct it"),
    (r"Expected string but found: '?([A-Z][A-Z0-9_]{2,})'?$", "{} is not in quotes; a type is "
     'written as type: "Convolution" (CONVOLUTION is its name in the old \'layers\' entries)'),
    (r"Expected string but found: (.*)", "{} is not text in quotes; put the value in quotes"),
    (r'Expected "true" or "false"', "the value can only be true or false; give one of them"),
    (r'Expected ":"', "a ':' is missing between the field's name and its value"),
    (r'Expected "\{"', "the field holds other fields; put them in '{{' and '}}'"),
    (r"Expected identifier or number, got (.*?)\.?$", "{!r} is not the name of a field; remove it"),
    (r'Enum type "caffe\.[\w.]*" has no value (?:named|with number) (.*?)\.?$', "{} is not one "
     "of the values that this field can have; correct it"),
)  # fmt: skip
_MAX_CAUSE = 300
MAX_BYTES = 8 << 20
"""Of a prototxt: those of the largest nets have one."""

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


def read_prototxt(path: Source) -> Message:
    """Read the NetParameter in a prototxt file, or in the content of one.

    Of a solver's file it is that in ``net_param``.
    What the schema does not know is noted in ``unknown_field`` of the layer it stands in,
    or of the net.
    """
    content, source = open_file(path), name_of(path)
    if len(content) > MAX_BYTES:
        raise ReadError(
            f"{source}: has {len(content):,} bytes; a net's definition has fewer than "
            f"{MAX_BYTES:,} (weights belong in a caffemodel)"
        )
    data = bytes(content)
    kind = other_kind(data)
    if kind is not None:
        raise ReadError(f"{source}: is {kind}, not a prototxt")
    # Comments may be in any encoding; the scan finds what is not UTF-8 elsewhere.
    text = text_of(data, source, "surrogateescape")
    if "\0" in text:
        raise ReadError(
            f"{source}: is a binary file, not a prototxt; is it the caffemodel with the weights?"
        )
    net = parse_prototxt(text, source)
    if any(unknown.name == "net_param" for unknown in net.unknown_field):
        net = parse_prototxt(text, source, "SolverParameter").net_param
    if not (net.layer or net.layers or net.input):
        raise ReadError(
            f"{source}:1:1: describes no layers; give the prototxt of a net "
            "(a solver.prototxt names its net in the field 'net' or 'train_net')"
        )
    net.place, net.text = source, text.encode("utf-8", "replace").decode()
    return net


def parse_prototxt(text: str, source: str = "<text>", message: str = "NetParameter") -> Message:
    """Parse text as the message ``caffe.<message>``; ``source`` names it in errors."""
    result = message_class(message)()
    parse_into(result, text, source)
    return result


def parse_into(result: Message, text: str, source: str, first: tuple[int, int] = (1, 1)) -> None:
    """Parse text as what an empty message holds; ``source`` names it in errors.

    ``first`` is the line and column of the text's beginning, where it is a part of one. Unknown
    fields are noted in the messages that have ``unknown_field``; elsewhere they are a ReadError.
    """
    scan = _Scan(text, source, first)
    owner: Path | None = () if _has_notes(result.DESCRIPTOR) else None
    with suppress(_ParserSaysError):
        scan.take()
        scan.fields(_Message(result.DESCRIPTOR, (), owner, ""), "")
    try:
        text_format.Parse("".join(scan.known) + text[scan.done :], result)
    except text_format.ParseError as error:
        line, column = scan.shifted(error.GetLine() or 1, error.GetColumn() or 1)
        raise ReadError(f"{source}:{line}:{column}: {_cause(str(error))}") from None
    for path, place in scan.places.items():
        _at(result, path).place = place
    for path, fields in scan.notes.items():
        getattr(_at(result, path), NOTES_FIELD).extend(fields)


def _at(message: Message, path: Path) -> Message:
    """The message at ``path`` within ``message``."""
    for name, index in path:
        value = getattr(message, name)
        message = value[index] if isinstance(value, MutableSequence) else value
    return message


def _cause(error: str) -> str:
    """The parser's words in plain ones."""
    error = error.encode("utf-8", "backslashreplace").decode()
    for pattern, plain in _PLAIN:
        match = re.search(pattern, error, re.DOTALL)
        if match is not None:
            return plain.format(*(group[:_MAX_CAUSE] for group in match.groups()))
    return f"the text cannot be read: {error[-_MAX_CAUSE:]}"


class _ParserSaysError(Exception):
    """The text is wrong here, in a way that the parser tells better."""


@dataclass
class _Message:
    """A message of the text; ``owner`` is the one around it, or itself, that has the notes."""

    type: Any
    path: Path
    owner: Path | None
    prefix: str
    counts: Counter[str] = field(default_factory=Counter)


class _Scan:
    """Reads the text once, one token ahead; recurses as deeply as the schema does."""

    def __init__(self, text: str, source: str, first: tuple[int, int]) -> None:
        self.text, self.source, self.first = text, source, first
        self.tokens = self._tokens()
        self.start, self.token = 0, ""
        self.known: list[str] = []
        self.done = self.unknown = self.last_end = 0
        self.counted = self.line = 0
        self.notes: dict[Path, list[Message]] = {}
        self.places: dict[Path, str] = {}

    def fields(self, message: _Message, close: str) -> None:
        """The fields of a message up to its closing bracket, or to the end of the text."""
        while self.token != close:
            start, name = self.start, self.take()
            known = message.type.fields_by_name.get(name)
            if not _NAME.fullmatch(name):
                raise _ParserSaysError
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
        token, self.last_end = self.token, self.start + len(self.token)
        self.start, self.token = next(self.tokens)
        return token

    def _messages(self, outer: _Message, known: Any, start: int) -> None:
        """One message, or a list of them, of the field that begins at ``start``."""
        if self.token == ":":
            self.take()
        if self.token != "[":
            self._message(outer, known, start)
        else:
            self.take()
            while self.token != "]":
                if self.token == ",":
                    self.take()
                else:
                    self._message(outer, known, self.start)
            self.take()
        self._separator()

    def _message(self, outer: _Message, known: Any, start: int) -> None:
        if self.token not in ("{", "<"):
            raise _ParserSaysError
        path = (*outer.path, (known.name, outer.counts[known.name]))
        outer.counts[known.name] += 1
        if outer.counts[known.name] > _MAX_REPEATS:
            self._fail(self.start, f"more than {_MAX_REPEATS} times {known.name!r}; this is no net")
        owner, prefix = outer.owner, f"{outer.prefix}{known.name}."
        if _has_notes(known.message_type):
            owner, prefix = path, ""
            self.places[path] = "{}:{}:{}".format(self.source, *self._place(start))
        self.fields(_Message(known.message_type, path, owner, prefix), _CLOSE[self.take()])

    def _value(self, scalar: bool = False) -> list[str]:
        """Pass a field's value and return its tokens; of what is no scalar the first."""
        colon = self.token == ":"
        if colon:
            self.take()
        if self.token == "[" or (self.token in ("{", "<") and not scalar):
            values, depth = [self.take()], 1
            while depth:
                token = self._signed() if scalar else self.take()
                depth += (token in _CLOSE) - (token in _CLOSE.values())
                if scalar:
                    values.append(token)
        elif colon and self.token and self.token not in "{}<>[]:,;":
            values = [self._signed() if scalar else self.take()]
            if values[0] in ("-", "+"):
                values.append(self.take())
            while values[0][0] in "\"'" and self.token[:1] in ('"', "'"):
                self.take()  # A string that continues the one before.
        else:
            raise _ParserSaysError
        self._separator()
        return values

    def _signed(self) -> str:
        """Take a token. To protobuf a minus may stand apart from its number; not to its parser."""
        start, token = self.start, self.take()
        if token == "-":
            self.known += [self.text[self.done : start], self.text[start + 1 : self.start], "-"]
            self.done = self.start
        return token

    def _separator(self) -> None:
        if self.token in (",", ";"):
            self.take()

    def _note(self, message: _Message, name: str, start: int) -> None:
        line, column = self._place(start)
        text = self.text[start : self.last_end].rstrip(" \t\r\n,;")
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
        self.unknown += 1
        if self.unknown > _MAX_UNKNOWN:
            self._fail(start, f"more than {_MAX_UNKNOWN} unknown fields; this is no net")
        skipped = self.text[start : self.last_end]
        blank = _LINE_PART.sub(lambda part: " " * min(len(part[0]), 100), skipped)
        self.known += [self.text[self.done : start], blank]
        self.done = self.last_end

    def _tokens(self) -> Iterator[tuple[int, str]]:
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
        if offset < self.counted:
            self.counted = self.line = 0
        self.line += self.text.count("\n", self.counted, offset)
        self.counted = offset
        return self.shifted(self.line + 1, offset - self.text.rfind("\n", 0, offset))

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


def write_prototxt(net: Message) -> str:
    """A V2 net as text that ``read_prototxt`` reads as the same net, unknown fields included."""
    return str(text_format.MessageToString(net, message_formatter=_format_layer))


def _format_layer(message: Message, indent: int, as_one_line: bool) -> str | None:
    """The text of a LayerParameter with its unknown fields where they stood; else None.

    They come after the known ones of their message: where a fork repeats a field that Caffe has
    once, Caffe's is the first.
    """
    if message.DESCRIPTOR.name != "LayerParameter":
        return None
    bare = message_class("LayerParameter")()
    bare.CopyFrom(message)
    bare.ClearField("place")
    bare.ClearField(NOTES_FIELD)
    lines = text_format.MessageToString(bare, indent=indent).splitlines()
    for unknown in message.unknown_field:
        at, depth = len(lines), indent
        for part in unknown.parent.split(".") if unknown.parent else ():
            at = lines.index(" " * depth + part + " {", 0 if depth == indent else at) + 1
            depth += 2
        if unknown.parent:
            at = lines.index(" " * (depth - 2) + "}", at)
        lines.insert(at, " " * depth + unknown.text)
    return "\n".join(lines).removeprefix(" " * indent)  # The printer indents and ends it.
