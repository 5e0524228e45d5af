"""Caffe's layer types, one a file. A type is found by the name of its file, or registered.

What a layer needs is here, for the package's own and for plugins: the base class, its
errors, the description of learned blobs, and what the lowerings pass to a layer.

``layers/inner_product.py`` holds ``InnerProduct``: the file's name without underscores is
the type in lower case, so looking a type up imports that file and no other.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from caffe2torch.io.parameters import TEXT_ONLY, Parameters
from caffe2torch.io.schema import Message
from caffe2torch.layers._backward import NOTHING, Backward, GradientSharing, Reads
from caffe2torch.layers._base import (
    Affine,
    BlobSpec,
    Layer,
    Role,
    axis_or_legacy_dim,
    canonical_axis,
    constant_filler,
    net_error,
    refuse_in_place,
    unsupported,
)
from caffe2torch.layers._builders import OnnxBuilder, TorchBuilder
from caffe2torch.layers._param_str import python_params

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:  # It only tells type checkers that the decorator makes dataclasses.

    def dataclass_transform(**_):
        return lambda function: function


__all__ = [
    "NOTHING",
    "TEXT_ONLY",
    "Affine",
    "Backward",
    "BlobSpec",
    "GradientSharing",
    "Layer",
    "OnnxBuilder",
    "Parameters",
    "Reads",
    "Role",
    "TorchBuilder",
    "all_layers",
    "axis_or_legacy_dim",
    "canonical_axis",
    "constant_filler",
    "find_layer",
    "finding",
    "net_error",
    "python_params",
    "refuse_in_place",
    "register_layer",
    "type_name",
    "unsupported",
]

LayerType = TypeVar("LayerType", bound=Layer)

_registry: dict[str, type[Layer]] = {}
_changes: list[Callable[[str, type[Layer] | None], type[Layer] | None]] = []


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def register_layer(*types: str) -> Callable[[type[LayerType]], type[LayerType]]:
    """Class decorator: make a Layer the conversion of the Caffe layer types ``types``.

    The class becomes a frozen dataclass. Without arguments its own ``type`` is registered. A
    later registration of the same type wins, so that a plugin can replace a layer of the package.
    """

    def register(cls: type[LayerType]) -> type[LayerType]:
        if "__dataclass_fields__" not in vars(cls):
            cls = dataclass(frozen=True)(cls)
        for name in types or (cls.type,):
            _registry[name] = cls
        return cls

    return register


@contextmanager
def finding(change: Callable[[str, type[Layer] | None], type[Layer] | None]) -> Iterator[None]:
    """Within a ``with`` block, have ``find_layer`` give what ``change`` makes of it.

    It gets a type and the class that is known for it.
    """
    _changes.append(change)
    try:
        yield
    finally:
        _changes.remove(change)


def find_layer(type: str) -> type[Layer] | None:
    """The class that converts the Caffe layer type ``type``; None if there is none."""
    found = _known(type)
    for change in _changes:
        found = change(type, found)
    return found


def _known(type: str) -> type[Layer] | None:
    if type not in _registry:
        module = _module_names().get(type.lower())
        if module:
            importlib.import_module(f"{__name__}.{module}")
    if type not in _registry:
        _import_all()
    return _registry.get(type)


def type_name(proto: Message) -> str:
    """The type under which the class of a LayerParameter is found.

    It is Caffe's, but for Python layers: ``"Python MODULE.LAYER"``. Nothing is imported for them.
    """
    if proto.type != "Python":
        return str(proto.type)
    return f"Python {proto.python_param.module}.{proto.python_param.layer}"


def type_of_v1(word: str) -> str:
    """The type that a V1 layer of a fork names: ``CONVOLUTION3D`` is Convolution3D.

    A word that no class has for its type is returned as it is.
    """
    squashed = word.replace("_", "").lower()
    return next((known for known in all_layers() if known.lower() == squashed), word)


def all_layers() -> dict[str, type[Layer]]:
    """Every known type and its class, in alphabetical order; imports all layer files."""
    _import_all()
    return dict(sorted(_registry.items(), key=lambda item: item[0].lower()))


@cache
def _import_all() -> None:
    """Import all layer files; a type that none of them has costs this once."""
    for module in _module_names().values():
        importlib.import_module(f"{__name__}.{module}")


@cache
def _module_names() -> dict[str, str]:
    names = (m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return {name.replace("_", ""): name for name in names}
