"""Prototxt text to messages, with errors as ``file:line:column: cause``.

Fields that the schema does not know are kept as UnknownFields of the message that they stand in
(``scan``): the layer's type may know one, and whoever uses that layer refuses it else.
"""

from __future__ import annotations

import re
from collections.abc import MutableSequence

from google.protobuf import text_format

from caffe2torch.errors import ReadError
from caffe2torch.io.files import Source, name_of, open_file, other_kind, text_of
from caffe2torch.io.scan import NOTES_FIELD, Path, scan
from caffe2torch.io.schema import Message, message_class

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
    found = scan(text, result.DESCRIPTOR, source, first)
    try:
        text_format.Parse(found.readable, result)
    except text_format.ParseError as error:
        line, column = found.shifted(error.GetLine() or 1, error.GetColumn() or 1)
        raise ReadError(f"{source}:{line}:{column}: {_cause(str(error))}") from None
    for path, place in found.places.items():
        _at(result, path).place = place
    for path, fields in found.notes.items():
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
