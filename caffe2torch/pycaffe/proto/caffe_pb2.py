"""Caffe's messages and enums by name, as programs know them of ``caffe.proto`` (BVLC Caffe 1.0).

No code is generated: the classes are made of the schema that the converter reads files with, in a
descriptor pool of their own. Its fields that forks or this package added to Caffe's messages are
left out, so that a program that goes over fields meets Caffe's; the messages that SSD added stand
beside them (``LabelMap``). What a binary has in other fields is kept, as protobuf keeps what it
does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import enum_type_wrapper

from caffe2torch.io import schema

_FIRST_OF_FORKS = {
    "BlobProto": 10,
    "LayerParameter": 200,
    "SolverParameter": 10_000,
    "SolverState": 5,
    "TransformationParameter": 8,
}
"""By message, the number from which on its fields are not Caffe's own."""

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


def _file() -> Any:
    """The descriptor of caffe.proto with Caffe's own fields."""
    file = descriptor_pb2.FileDescriptorProto()
    schema.pool().FindFileByName("caffe.proto").CopyToProto(file)
    schema.replace_all(
        file.message_type, [m for m in file.message_type if m.name != "UnknownField"]
    )
    for message in file.message_type:
        end = _FIRST_OF_FORKS.get(message.name, schema.FIRST_PRIVATE)
        schema.replace_all(message.field, [field for field in message.field if field.number < end])
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindFileByName("caffe.proto")


def _names(file: Any) -> dict[str, Any]:
    """Messages, enums and the values of enums, by name."""
    names: dict[str, Any] = {}
    for name, enum in file.enum_types_by_name.items():
        names[name] = enum_type_wrapper.EnumTypeWrapper(enum)
        names |= {value: number.number for value, number in enum.values_by_name.items()}
    for name, message in file.message_types_by_name.items():
        names[name] = message_factory.GetMessageClass(message)
        names[name].__module__ = __name__  # Where pickle looks the class up.
    return names


DESCRIPTOR = _file()
globals().update(_names(DESCRIPTOR))
