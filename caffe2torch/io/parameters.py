"""Parameter messages that a layer declares for itself, in protobuf's own language.

Caffe's schema holds the parameters of Caffe's layers. Each fork added its own, and gave them the
next free numbers, so that the same number means another message in another fork. So a file's
unknown fields are kept as they are (``UnknownField``) until the type of their layer says what
they mean: the class of that type declares the message here.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any, NoReturn

from google.protobuf import descriptor_pb2, message_factory, text_format
from google.protobuf.message import DecodeError

from caffe2torch.errors import ReadError
from caffe2torch.io.fields import head_bytes
from caffe2torch.io.prototxt import parse_into
from caffe2torch.io.schema import Message, message_class, pool
from caffe2torch.io.unknown import is_message, payload, split_known

TEXT_ONLY = 500_000_000
"""Declared numbers from here on are no fork's: it gave the field another, unknown one."""

OWN_NUMBER = 10_000
"""What stands before an own message in a caffemodel that is written; any number would do."""

_TOKEN = re.compile(
    r"\s+|//[^\n]*|/\*[\s\S]*?\*/|"
    r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[\w.+-]+|[{}\[\]=;,])"""
)
_LABELS = {"optional": 1, "required": 2, "repeated": 3}
_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed64": 6, "fixed32": 7,
    "bool": 8, "string": 9, "bytes": 12, "uint32": 13, "sfixed32": 15, "sfixed64": 16,
    "sint32": 17, "sint64": 18,
}  # fmt: skip
_ENUM, _MESSAGE = 14, 11
_HOLDER = "LayerParameter"
_names = count()


@dataclass(frozen=True)
class Parameters:
    """The parameter message of a layer type, as a class attribute ``parameters`` of its Layer.

    ``field`` is its name in a prototxt, or several: that forks use for the same message, or
    messages among which a fork divides what the layer reads.
    ``declaration`` is the body of the message as it stands in the fork's caffe.proto: fields
    with their numbers and defaults, enums and messages within; messages and enums of Caffe
    (FillerParameter) may be named. A field whose number in the fork is unknown, or clashes with
    another fork's, has one from ``TEXT_ONLY`` on: it is read in a prototxt only::

        parameters = Parameters("shuffle_channel_param", "optional uint32 group = 1 [default = 1];")

    Where ``field`` is one of Caffe's own (``dropout_param``), the declaration says what the
    fork adds to that message: Caffe's fields stay in ``proto.dropout_param``, ``of`` gives the
    others. Where only a later name is, an older fork changed Caffe's message into this one.

    In a binary the layer's type decides: whatever message stands under a number that is not
    common to all layers is this one. ``beside`` is a message of Caffe's schema that another form of
    the layer reads, and keeps its number.
    """

    field: str | tuple[str, ...]
    declaration: str
    beside: str = ""

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The names of the field in a prototxt."""
        return (self.field,) if isinstance(self.field, str) else self.field

    @cached_property
    def is_own(self) -> bool:
        """Whether the message is the layer's own, not an addition to one of Caffe's."""
        return self.fields[0] not in message_class("LayerParameter").DESCRIPTOR.fields_by_name

    def take_over(self, proto: Message) -> None:
        """Make messages of Caffe that stand for the layer's own ones UnknownFields of ``proto``."""
        known = proto.DESCRIPTOR.fields_by_name
        for name in self.fields[1:] if self.is_own else ():
            if name in known and proto.HasField(name):
                inner = [u for u in proto.unknown_field if u.parent == name and u.HasField("name")]
                parts = [text_format.MessageToString(getattr(proto, name), as_one_line=True)]
                body = " ".join([*parts, *(unknown.text for unknown in inner)])
                proto.ClearField(name)
                for unknown in inner:
                    proto.unknown_field.remove(unknown)
                proto.unknown_field.add(name=name, text=f"{name} {{ {body} }}")

    def claims(self, unknown: Message) -> bool:
        """Whether an UnknownField of a layer of this type is declared here."""
        if self.is_own:
            if unknown.parent:
                return False
            if unknown.HasField("name"):
                return unknown.name in self.fields
            return is_message(unknown)
        if unknown.parent not in self.fields:
            return False
        known = self._class.DESCRIPTOR
        if unknown.HasField("name"):
            return unknown.name in known.fields_by_name
        return unknown.number in known.fields_by_number

    def given(self, proto: Message) -> bool:
        """Whether a LayerParameter gives any field that is declared here."""
        return any(map(self.claims, proto.unknown_field))

    def of(self, proto: Message) -> Message:
        """The message of a LayerParameter, with its defaults where the file gives nothing.

        Raises ReadError, with the place in the file, for fields that the declaration does not
        have, for values of a wrong kind and for a message that is given twice.
        """
        claimed = [unknown for unknown in proto.unknown_field if self.claims(unknown)]
        names = [unknown.name or str(unknown.number) for unknown in claimed]
        # Messages of a binary have no names: any of several could be the one.
        numbered = any(unknown.HasField("number") for unknown in claimed)
        twice = len(claimed) > (1 if numbered else len(set(names)))
        messages = [] if self.is_own and twice else [self._read(u, proto) for u in claimed]
        given = [field.name for message in messages for field, _ in message.ListFields()]
        if self.is_own and (twice or len(set(given)) < len(given)):
            raise ReadError(
                f"{proto.place or f'layer {proto.name!r}'}: the layer's {self.fields[0]} is "
                f"given {len(claimed)} times ({' and '.join(names)}); keep one of them"
            )
        result = self._class()
        for message in messages:
            result.MergeFrom(message)
        if messages and not result.IsInitialized():
            raise ReadError(
                f"{proto.place or f'layer {proto.name!r}'}: the layer's {self.fields[0]} lacks "
                f"{', '.join(result.FindInitializationErrors())}, which must be given"
            )
        return result

    def put(self, proto: Message, field: str, value: Any) -> None:
        """Give a field of the layer's own message a value."""
        message = self.of(proto)
        setattr(message, field, value)
        for unknown in [u for u in proto.unknown_field if self.claims(u)]:
            proto.unknown_field.remove(unknown)
        body = text_format.MessageToString(message, as_one_line=True)
        text = f"{self.fields[0]} {{ {body} }}"
        proto.unknown_field.add(name=self.fields[0], text=text)

    def as_text(self, proto: Message) -> list[Message]:
        """The UnknownFields of ``proto`` that this message stands for, in the form of a text."""
        message = self.of(proto)
        if not self.given(proto):
            return []
        unknown = message_class("UnknownField")
        if self.is_own:
            body = text_format.MessageToString(message, as_one_line=True)
            return [unknown(name=self.fields[0], text=f"{self.fields[0]} {{ {body} }}")]
        holder = self._class()
        out = []
        for known, _ in message.ListFields():
            holder.Clear()
            holder.MergeFrom(message)
            for other in holder.DESCRIPTOR.fields:
                if other.number != known.number:
                    holder.ClearField(other.name)
            text = text_format.MessageToString(holder, as_one_line=True)
            out.append(unknown(parent=self.fields[0], name=known.name, text=text))
        return out

    def as_bytes(self, proto: Message) -> bytes:
        """The message of ``proto`` as a field of a binary LayerParameter; empty if it has none."""
        if not self.given(proto):
            return b""
        body: bytes = self.of(proto).SerializeToString()
        known = message_class("LayerParameter").DESCRIPTOR.fields_by_name
        number = OWN_NUMBER if self.is_own else known[self.fields[0]].number
        return head_bytes(number, len(body)) + body

    def _read(self, unknown: Message, proto: Message) -> Message:
        message = self._holder() if self.is_own else self._class()
        if unknown.HasField("name"):
            source = proto.place.rsplit(":", 2)[0] or f"layer {proto.name!r}"
            parse_into(message, unknown.text, source, (unknown.line or 1, unknown.column or 1))
            return getattr(message, unknown.name) if self.is_own else message
        data = payload(unknown.data) if self.is_own else unknown.data
        known, others = split_known(self._class.DESCRIPTOR, data)
        if others:
            raise ReadError(
                f"layer {proto.name!r}: field {others[0].number} of its {self.fields[0]} is not "
                "one that this layer type is known to have, and may change what it computes; give "
                "the net's prototxt"
            )
        try:
            return self._class.FromString(known)
        except DecodeError:
            raise ReadError(
                f"layer {proto.name!r}: its parameters are no {self.fields[0]} that can be read; "
                "give the net's prototxt"
            ) from None

    @cached_property
    def _class(self) -> Any:
        return self._classes[0]

    @cached_property
    def _holder(self) -> Any:
        return self._classes[1]

    @cached_property
    def _classes(self) -> tuple[Any, Any]:
        """The classes of the message, and of one that has it as each of ``fields``."""
        number = next(_names)
        package = f"caffe.declared{number}"
        file = descriptor_pb2.FileDescriptorProto(
            name=f"declared{number}.proto", package=package, dependency=["caffe.proto"]
        )
        name = "".join(word.capitalize() for word in self.fields[0].split("_"))
        message = file.message_type.add(name=name)
        _Declaration(self.declaration, self.fields[0]).read(message, f".{package}.{name}")
        holder = file.message_type.add(name=_HOLDER)
        for at, field in enumerate(self.fields, 1):
            holder.field.add(
                name=field, number=at, label=1, type=_MESSAGE, type_name=f".{package}.{name}"
            )
        pool().AddSerializedFile(file.SerializeToString())
        described = pool().FindFileByName(file.name).message_types_by_name
        first, second = (message_factory.GetMessageClass(described[n]) for n in (name, _HOLDER))
        return first, second


class _Declaration:
    """Reads the body of a message in protobuf's language into a DescriptorProto."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.tokens: list[str] = []
        self.declared: dict[str, int] = {}
        self.named: list[tuple[Any, str, list[str]]] = []
        pos = 0
        while pos < len(text):
            match = _TOKEN.match(text, pos)
            if match is None:
                self._fail(f"{text[pos : pos + 20]!r} cannot be here")
            if match[1]:
                self.tokens.append(match[1])
            pos = match.end()

    def read(self, message: Any, full: str) -> None:
        """All tokens as the body of ``message``, whose full name is ``full``."""
        self._body(message, [full])
        if self.tokens:
            self._fail(f"{self.tokens[0]!r} closes nothing")
        for field, kind, scopes in self.named:  # A type may be declared after it is used.
            field.type, field.type_name = self._type(kind, scopes)

    def _body(self, message: Any, scopes: list[str]) -> None:
        while self.tokens and self.tokens[0] != "}":
            word = self._take()
            if word == "enum":
                enum = message.enum_type.add(name=self._take())
                self.declared[f"{scopes[0]}.{enum.name}"] = _ENUM
                self._enum(enum)
            elif word == "message":
                inner = message.nested_type.add(name=self._take())
                full = f"{scopes[0]}.{inner.name}"
                self.declared[full] = _MESSAGE
                self._expect("{")
                self._body(inner, [full, *scopes])
                self._expect("}")
            elif word in _LABELS:
                self._field(message.field.add(label=_LABELS[word]), scopes)
            else:
                self._fail(f"{word!r} is neither optional, repeated, enum nor message")

    def _field(self, field: Any, scopes: list[str]) -> None:
        kind, field.name = self._take(), self._take()
        self._expect("=")
        field.number = int(self._take())
        if self.tokens[:1] == ["["]:
            while self._take() != "]":
                option = self._take()
                self._expect("=")
                if option == "default":
                    field.default_value = self.tokens[0].strip("\"'")
                elif option == "packed":
                    field.options.packed = self.tokens[0] == "true"
                self._take()
                if self.tokens[:1] == ["]"]:
                    self._take()
                    break
        self._expect(";")
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            self.named.append((field, kind, scopes))

    def _enum(self, enum: Any) -> None:
        self._expect("{")
        while self.tokens[:1] != ["}"]:
            value = enum.value.add(name=self._take())
            self._expect("=")
            value.number = int(self._take())
            self._expect(";")
        self._expect("}")

    def _type(self, kind: str, scopes: list[str]) -> tuple[int, str]:
        """The kind and full name of a type: of this declaration, or of Caffe's schema."""
        for scope in scopes:
            if f"{scope}.{kind}" in self.declared:
                return self.declared[f"{scope}.{kind}"], f"{scope}.{kind}"
        finds = (_MESSAGE, pool().FindMessageTypeByName), (_ENUM, pool().FindEnumTypeByName)
        for number, find in finds:
            with suppress(KeyError):
                return number, "." + find(f"caffe.{kind}").full_name
        self._fail(f"the type {kind!r} is neither declared nor one of Caffe's")

    def _take(self) -> str:
        if not self.tokens:
            self._fail("it ends in the middle of a field")
        return self.tokens.pop(0)

    def _expect(self, token: str) -> None:
        found = self._take()
        if found != token:
            self._fail(f"{token!r} is expected, not {found!r}")

    def _fail(self, cause: str) -> NoReturn:
        raise ValueError(f"the declaration of {self.name}: {cause}")
