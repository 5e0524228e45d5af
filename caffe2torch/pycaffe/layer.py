"""Python layers: a user's class that computes one layer of a net (python_layer.hpp)."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caffe2torch import layers
from caffe2torch.errors import NetError
from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.pycaffe.blob import Blob, BlobVec, BoolVec


class Layer:
    """Base of Python layers, and what ``net.layers`` holds.

    A subclass defines ``setup(bottom, top)``, ``reshape(bottom, top)``, ``forward(bottom, top)``
    and ``backward(top, propagate_down, bottom)``. ``param_str`` and ``phase`` (0 is TRAIN, 1 is
    TEST) are set before setup, in which ``self.blobs.add_blob(2, 3)`` makes a learned blob.
    """

    param_str: str
    phase: int
    blobs: BlobVec
    type = "Python"

    if TYPE_CHECKING:
        setup: Callable[..., None]
        reshape: Callable[..., None]
        forward: Callable[..., None]
        backward: Callable[..., None]

    def __new__(cls, *args: Any, **keywords: Any) -> Layer:
        """Give the layer its blobs, also where a subclass's own ``__init__`` does not."""
        layer = super().__new__(cls)
        layer.blobs = BlobVec()
        return layer

    def __init__(self, param: Message) -> None:
        self.param_str = param.python_param.param_str
        self.phase = param.phase


class BuiltIn(Layer):
    """A layer of Caffe's own, as ``net.layers`` shows it."""

    def __init__(self, type: str, blobs: BlobVec, phase: int) -> None:
        self.type, self.blobs, self.phase, self.param_str = type, blobs, phase, ""


class Host:
    """An instance of a user's layer with its blobs, from before the net has any."""

    def __init__(self, proto: Message) -> None:
        self.proto = proto
        self.instance = _class_of(proto)(proto)
        self.instance.param_str = proto.python_param.param_str
        self.instance.phase = proto.phase
        self.bottoms = BlobVec()
        self.tops = BlobVec()
        self.is_set_up = False

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """The shapes of the tops, as setup and reshape make them."""
        if not self.is_set_up:
            self.bottoms = BlobVec(Blob._of(shape) for shape in bottoms)
            places = {name: i for i, name in enumerate(self.proto.bottom)}
            self.tops = BlobVec(
                self.bottoms[places[name]] if name in places else Blob._of(())
                for name in self.proto.top
            )
            self.instance.setup(self.bottoms, self.tops)
            self.is_set_up = True
            # The values that setup gave them stand in the layer, in place of a filler's.
            for blob in self.instance.blobs:
                made = self.proto.blobs.add(data=blob.data.reshape(-1))
                made.shape.dim[:] = blob._shape
        for blob, shape in zip(self.bottoms, bottoms, strict=True):
            blob._resize(shape)
        self.instance.reshape(self.bottoms, self.tops)
        return [top._shape for top in self.tops]


@dataclass(frozen=True, eq=False)
class PythonLayer(layers.Layer):
    """A layer of type Python, computed by the user's class.

    Only programs that run in pycaffe, and ``train --python-layers``, know it (``python_layers``).
    """

    type = "Python"
    bottoms = (0, None)
    tops = (0, None)
    works_in_place = True
    reads = layers.Reads(slice(None), slice(None))

    host: Host = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> layers.Layer:
        return cls(name=proto.name, host=Host(proto))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return self.host.shapes(bottoms)

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[layers.BlobSpec]:
        zero = layers.constant_filler(0)
        return [
            layers.BlobSpec(f"blob{index}", blob._shape, zero, given=True)
            for index, blob in enumerate(self.host.instance.blobs)
        ]

    def to_torch(
        self, t: layers.TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]
    ) -> Any:
        learned = [getattr(t.params, spec.name) for spec in self.blob_specs(bottoms)]
        tops = _Run.apply(self.host, *inputs, *learned)  # type: ignore[no-untyped-call]
        return tops if len(tops) != 1 else tops[0]

    def gradient(self, t: layers.TorchBuilder, found: layers.Backward) -> Sequence[Tensor | None]:
        """What the class's backward makes of its blobs as they are by then, learned ones too."""
        blobs = (*self.host.bottoms, *self.host.tops)
        for blob, value in zip(blobs, (*found.bottoms, *found.tops), strict=True):
            blob._put(value.cpu().clone())
        return _gradients(self.host, found.diffs, found.wanted)


class _Run(torch.autograd.Function):
    """A pass through a user's layer, in a graph of autograd."""

    @staticmethod
    def forward(ctx: Any, host: Host, *values: Tensor) -> tuple[Tensor, ...]:
        instance = host.instance
        blobs = [*host.bottoms, *instance.blobs]
        for blob, value in zip(blobs, values, strict=True):
            blob._put(value.detach().cpu().clone())
        instance.reshape(host.bottoms, host.tops)
        instance.forward(host.bottoms, host.tops)
        ctx.host = host
        return tuple(
            top._data.view(top._shape).clone().to(values[0].device if values else "cpu")
            for top in host.tops
        )

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        propagate = ctx.needs_input_grad[1 : 1 + len(ctx.host.bottoms)]
        return None, *_gradients(ctx.host, diffs, propagate)


def _gradients(host: Host, diffs: Sequence[Tensor], propagate: Sequence[bool]) -> list[Tensor]:
    """The gradients of the bottoms and of the learned blobs, by the user's backward."""
    for top, diff in zip(host.tops, diffs, strict=True):
        top._diff.put(diff.detach().cpu().contiguous().clone())
    blobs = [*host.bottoms, *host.instance.blobs]
    for blob in blobs:
        if all(blob is not top for top in host.tops):
            blob._diff.put(torch.zeros(blob._shape))
    host.instance.backward(host.tops, BoolVec(propagate), host.bottoms)
    device = diffs[0].device if diffs else "cpu"
    return [blob._diff.view(blob._shape).clone().to(device) for blob in blobs]


@contextmanager
def python_layers() -> Iterator[None]:
    """Within the block, nets may have Python layers, which are the user's own.

    A class that caffe2torch has for such a layer serves where the user's module is not there,
    unless it only stands for a layer that draws at random.
    """
    with layers.finding(_own_first):
        yield


def _own_first(type: str, known: type[layers.Layer] | None) -> type[layers.Layer] | None:
    kind, _, name = type.partition(" ")
    serves = known is not None and known.role is layers.Role.COMPUTE
    if kind != "Python" or (serves and not _is_there(name.rpartition(".")[0])):
        return known
    return PythonLayer


def _is_there(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


class PythonLayerError(NetError):
    """The user's class of a Python layer is not there, or is none; ``kind`` is Python's error."""

    def __init__(self, proto: Message, kind: type[Exception], message: str) -> None:
        super().__init__(message, layer=proto.name, type="Python")
        self.kind = kind


def _class_of(proto: Message) -> type[Layer]:
    """The user's class of a Python layer.

    Raises PythonLayerError where there is none, and whatever its module raises when imported.
    """
    from caffe2torch.pycaffe import alias  # The package holds this module.

    module, name = proto.python_param.module, proto.python_param.layer
    if not module or not name:
        raise PythonLayerError(proto, RuntimeError, "python_param needs a module and a layer")
    found = sys.modules.get(module)
    if found is None:
        alias.install()  # The module says `import caffe`.
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module.split(".")[0] and error.name != module:
                raise
            raise PythonLayerError(
                proto,
                ModuleNotFoundError,
                f"there is no module {module!r} on Python's path; put its folder into PYTHONPATH, "
                "or the class into the program",
            ) from None
    cls = getattr(found, name, None)
    if cls is None:
        raise PythonLayerError(
            proto, AttributeError, f"the module {module!r} has no class {name!r}"
        )
    if not (isinstance(cls, type) and issubclass(cls, Layer)):
        raise PythonLayerError(proto, TypeError, f"{module}.{name} is no subclass of caffe.Layer")
    for method in ("setup", "reshape"):
        if not hasattr(cls, method):
            raise PythonLayerError(
                proto, RuntimeError, f"{module}.{name} does not define {method}(bottom, top)"
            )
    return cls
