"""Nets written as Python: ``NetSpec``, ``layers`` and ``params`` (pycaffe's net_spec.py).

``n.conv1 = L.Convolution(n.data, num_output=20, kernel_size=5)`` is a layer ``conv1`` with a top
of the same name; ``n.to_proto()`` is the NetParameter, whose ``str`` is the prototxt.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from caffe2torch.pycaffe.proto import caffe_pb2

Message = Any


class MissingTopError(KeyError, AttributeError):
    """A NetSpec has nothing of that name."""


class Top:
    """An output blob of a layer: the ``n``-th of ``fn``."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> Message:
        """The NetParameter of all layers that this top needs."""
        return to_proto(self)


class Function:
    """A layer: its type, the Tops that it reads, its parameters, and its ``ntop`` Tops.

    Raises TypeError for an input that is no Top.
    """

    def __init__(self, type_name: str, inputs: tuple[Top, ...], params: dict[str, Any]) -> None:
        for index, top in enumerate(inputs):
            if not isinstance(top, Top):
                # Caffe's own words.
                raise TypeError(f"{type_name} input {index} is not a Top (type is {type(top)})")
        self.type_name, self.inputs, self.params = type_name, inputs, params
        self.ntop: int = params.pop("ntop", 1)
        self.in_place: bool = params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))


class NetSpec:
    """A net that grows by assignment: ``n.name = Top`` or ``n["name"] = Top``.

    ``tops`` has what was assigned, in order. Of a Top with several names the last counts.
    """

    tops: OrderedDict[str, Any]

    def __init__(self) -> None:
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["tops"][name]
        except KeyError:
            there = ", ".join(self.__dict__.get("tops", ())) or "none"
            raise MissingTopError(f"no {name!r} was assigned; there are: {there}") from None

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def to_proto(self) -> Message:
        """The NetParameter: what each assigned Top or Function needs, in the order of need.

        Raises:
            AttributeError: a value is neither, or a layer has no field of a parameter's name.
            TypeError, ValueError: a field does not take the value.
        """
        for name, value in self.tops.items():
            if not isinstance(value, (Top, Function)):
                raise AttributeError(
                    f"{name!r} of the NetSpec is a {type(value).__name__}; only what a layer "
                    "returned can be part of a net (a layer with several tops is assigned to "
                    "several names)"
                )
        writer = _Writer({value: name for name, value in self.tops.items()})
        for value in self.tops.values():
            writer.write(value.fn if isinstance(value, Top) else value)
        return writer.net()


def to_proto(*tops: Top) -> Message:
    """The NetParameter of all layers that ``tops`` need. Names are made: ReLU1, ReLU2, ...

    Raises:
        AttributeError: an argument is no Top; a layer has no field of a parameter's name.
        TypeError, ValueError: a field does not take the value.
    """
    writer = _Writer({})
    for top in tops:
        if not isinstance(top, Top):
            raise AttributeError(
                f"to_proto takes Tops, not a {type(top).__name__}; a layer without tops goes "
                "into a NetSpec"
            )
        writer.write(top.fn)
    return writer.net()


class _Writer:
    """The layers of one net as they are written, and the names of Tops and Functions."""

    def __init__(self, names: dict[Any, str]) -> None:
        self.names = names
        self.layers: dict[Function, Message] = {}
        self.counts: Counter[str] = Counter()

    def net(self) -> Message:
        net = caffe_pb2.NetParameter()
        net.layer.extend(self.layers.values())
        return net

    def write(self, fn: Function) -> None:
        """Add a layer, after those that it reads from."""
        if fn in self.layers:
            return
        bottoms = []
        for bottom in fn.inputs:
            self.write(bottom.fn)
            bottoms.append(self.layers[bottom.fn].top[bottom.n])
        tops = bottoms if fn.in_place else [self.name(top, fn) for top in fn.tops]
        # The layer has the name of its first top, also where that is not written (in place).
        name = self.name(fn.tops[0] if fn.tops and fn not in self.names else fn, fn)
        layer = caffe_pb2.LayerParameter(name=name, type=fn.type_name, bottom=bottoms, top=tops)
        for key, value in fn.params.items():
            _set_parameter(layer, key, value)
        self.layers[fn] = layer

    def name(self, named: Top | Function, fn: Function) -> str:
        """The given name of a Top or Function; else the type with the next number."""
        if named not in self.names:
            self.counts[fn.type_name] += 1
            self.names[named] = f"{fn.type_name}{self.counts[fn.type_name]}"
        return self.names[named]


def _set_parameter(layer: Message, key: str, value: Any) -> None:
    """Set a parameter where it belongs: in the message of the layer's type, or in the layer."""
    own = _PARAM_NAMES.get(layer.type)
    target = layer
    if own and not key.endswith("param"):
        inner = getattr(layer, f"{own}_param")
        if key in inner.DESCRIPTOR.fields_by_name:
            target = inner
    try:
        assign_proto(target, key, value)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        error.args = (f"layer {layer.name!r} ({layer.type}), {key}={value!r}: {error}",)
        raise


def assign_proto(proto: Message, name: str, val: Any) -> None:
    """Set the field ``name``: dicts become messages, lists repeated fields, enums take names.

    One value for a repeated field becomes the only one of a list.

    Raises:
        AttributeError: there is no such field.
        IndexError: the list is empty.
        TypeError, ValueError: the field does not take the value.
    """
    if name not in proto.DESCRIPTOR.fields_by_name:
        raise AttributeError(f"{proto.DESCRIPTOR.name} has no field {name!r}")
    current = getattr(proto, name)
    if hasattr(current, "extend"):
        values = val if isinstance(val, list) else [val]
        if not values:
            raise IndexError(f"the list for {name} is empty; leave it out")
        if isinstance(values[0], dict):
            for item in values:
                _assign_all(current.add(), item)
        else:
            current.extend(values)
    elif isinstance(val, dict):
        _assign_all(current, val)
    else:
        setattr(proto, name, val)


def _assign_all(proto: Message, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        assign_proto(proto, name, value)


def param_name_dict() -> dict[str, str]:
    """By message, the field of a layer that holds it: ``{"InnerProduct": "inner_product"}``."""
    fields = caffe_pb2.LayerParameter.DESCRIPTOR.fields
    return {
        field.message_type.name.removesuffix("Parameter"): field.name.removesuffix("_param")
        for field in fields
        if field.name.endswith("_param")
    }


_PARAM_NAMES = param_name_dict()


class Layers:
    """``layers.Type(*tops, **parameters)`` makes a layer: a Top, or all Tops if it has several.

    ``ntop`` (1) is their number; with 0 the Function itself is given. ``in_place`` (False) has it
    write its bottom, ``name`` names the layer alone.
    """

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer(*inputs: Top, **params: Any) -> Any:
            fn = Function(name, inputs, params)
            if fn.ntop == 0:
                return fn
            return fn.tops[0] if fn.ntop == 1 else fn.tops

        return layer


class Parameters:
    """``params.Type.NAME`` is the number of an enum's value: ``params.Pooling.MAX``."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Enums(name)


class _Enums:
    def __init__(self, type_name: str) -> None:
        self._message = f"{type_name}Parameter"

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(caffe_pb2, self._message), name)


layers = Layers()
params = Parameters()
