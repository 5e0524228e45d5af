"""Message classes of Caffe's schema, built in a descriptor pool of their own.

A private pool cannot clash with pycaffe's or OpenCV's registration of ``caffe.*``, and
loading a descriptor set at run time keeps one package working on protobuf 4 to 7, which
generated code does not.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Message = Any
"""A protobuf message of the private pool; its fields are known only at run time."""

FIRST_PRIVATE = 500_000_000
"""Numbers of fields from here on are not of Caffe: no file may set them."""


@lru_cache(maxsize=1)
def pool() -> descriptor_pool.DescriptorPool:
    """The pool that holds the schema of ``proto/caffe.proto``."""
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString(resources.files(__package__).joinpath("caffe.desc").read_bytes())
    private = descriptor_pool.DescriptorPool()
    for file in files.file:
        private.AddSerializedFile(file.SerializeToString())
    return private


@lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    messages = pool().FindFileByName("caffe.proto").message_types_by_name
    classes = {name: message_factory.GetMessageClass(m) for name, m in messages.items()}
    for cls in classes.values():
        # pickle looks classes up in their module, and these are in none.
        copyreg.pickle(cls, _reduce)
    return classes


def _reduce(message: Message) -> tuple[Any, tuple[str, bytes]]:
    return _restore, (message.DESCRIPTOR.name, message.SerializeToString())


def _restore(name: str, data: bytes) -> Message:
    return message_class(name).FromString(data)


def message_class(name: str) -> Any:
    """The class of the message ``caffe.<name>``, for example ``NetParameter``."""
    return _classes()[name]


@cache
def enum_value(enum: str, value: str) -> int:
    """The number of ``value`` in the enum ``caffe.<enum>``, for example ``Phase``, ``TEST``."""
    return int(pool().FindEnumTypeByName(f"caffe.{enum}").values_by_name[value].number)


def enum_name(message: Message, field: str) -> str:
    """The name of the enum value that ``message.field`` holds."""
    enum = message.DESCRIPTOR.fields_by_name[field].enum_type
    return str(enum.values_by_number[getattr(message, field)].name)


def put_field(message: Message, field: str, value: Any) -> None:
    """Set, merge into or append to ``message.field``, as the kinds of field and value ask."""
    current = getattr(message, field)
    if not hasattr(current, "MergeFrom"):
        setattr(message, field, value)
    elif hasattr(value, "MergeFrom"):
        current.MergeFrom(value)
    else:
        current.append(value)


def replace_all(repeated: Any, messages: Iterable[Message]) -> None:
    """Make ``messages`` the whole content of a repeated message field."""
    content = list(messages)
    del repeated[:]
    repeated.extend(content)
