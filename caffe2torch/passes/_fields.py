"""Carrying protobuf field values from one message to another."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from caffe2torch.io.schema import Message


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
