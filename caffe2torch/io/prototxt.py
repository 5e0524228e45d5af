"""Prototxt text to messages, with errors as ``file:line:column: cause``."""

from __future__ import annotations

import re
from collections.abc import MutableSequence

from google.protobuf import text_format

from caffe2torch.errors import ReadError
from caffe2torch.io._scan import NOTES_FIELD, Path, scan
from caffe2torch.io.files import Source, name_of, open_file, other_kind
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
    if b"\0" in data:
        raise ReadError(
            f"{source}: is a binary file, not a prototxt; is it the caffemodel with the weights?"
        )
    # Comments may be in any encoding; the scan finds what is not UTF-8 elsewhere.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    net = parse_prototxt(text, source)
    if not (net.layer or net.layers or net.input):
        raise ReadError(
            f"{source}: describes no layers; give the prototxt of a net "
            "(a solver.prototxt names its net in the field 'net' or 'train_net')"
        )
    return net


def parse_prototxt(text: str, source: str = "<text>", message: str = "NetParameter") -> Message:
    """Parse text as the message ``caffe.<message>``; ``source`` names it in errors."""
    result = message_class(message)()
    known, notes = scan(text, source, result.DESCRIPTOR)
    try:
        text_format.Parse(known, result)
    except text_format.ParseError as error:
        place = f"{source}:{error.GetLine()}:{error.GetColumn()}"
        raise ReadError(f"{place}: {_cause(str(error))}") from None
    for path, causes in notes.items():
        getattr(_at(result, path), NOTES_FIELD).extend(causes)
    return result


def _at(message: Message, path: Path) -> Message:
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
