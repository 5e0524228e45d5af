"""Nets of older generations in today's form: ``layer`` entries only, inputs as an Input layer.

Caffe does the same when it reads a net (upgrade_proto.cpp). The V0 format has a module of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from caffe2torch.errors import NetError
from caffe2torch.io.fields import Fields
from caffe2torch.io.schema import Message, enum_name, message_class, put_field, replace_all
from caffe2torch.layers import all_layers, find_layer, type_of_v1
from caffe2torch.passes.draft import Draft

V1_TYPE = 5
"""The number of V1LayerParameter's ``type``."""

OF_A_FORK = " of a fork"
"""How the type of a V1 layer in a binary ends whose number is not one of Caffe's."""

OTHER_WORDS = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
"""V1 LayerTypes that become another V2 type than ``INNER_PRODUCT``'s way, ``InnerProduct``."""

PARAM_SPEC = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
"""V1 lists, one value a learned blob, and the field of ``param`` each becomes."""

DATA_PARAMETERS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
"""V1 types that had these fields in a parameter of their own."""

CLOSE = 0.9
"""How alike two words are, by difflib, where one is a slip of the pen: one letter of eleven."""

MOVED = ("scale", "mean_file", "crop_size", "mirror")


def check_generation(draft: Draft) -> None:
    """Refuse a net of mixed formats, which Caffe refuses or would read in part.

    A weights file without connections, which is no net, is refused too. Before: any net; ``layers {
    ... } layer { ... }`` is a NetError. After: the same net.
    """
    net = draft.net
    if draft.options.of_weights and not any(
        entry.bottom or entry.top for entry in (*net.layer, *net.layers)
    ):
        raise NetError(
            "the file has weights, but does not say how their layers are connected: give the "
            "prototxt of their net too (--prototxt)."
        )
    if net.layers and net.layer:
        raise NetError(
            f"the net has both 'layers' (first: {blob_owner_names(net)[0]!r}) and 'layer' entries "
            f"(first: {net.layer[0].name!r}), which Caffe refuses; write them all as "
            'layer { type: "..." }'
        )
    old = [entry.HasField("layer") for entry in net.layers]
    if any(old) and not all(old):
        entry = net.layers[old.index(False)]
        raise NetError(
            f"the net has V0 entries, layers {{ layer {{ ... }} }}, but layer {entry.name!r} is "
            "not one, and Caffe would drop its parameters; write all layers in one form"
        )


def blob_owner_names(net: Message) -> list[str]:
    """The layer name of every entry of the file's own layer list, before any upgrade."""
    if net.layers:
        return [entry.layer.name if entry.HasField("layer") else entry.name for entry in net.layers]
    return [layer.name for layer in net.layer]


def upgrade_data(draft: Draft) -> None:
    """Move the transformation fields of V1 data layers to ``transform_param``.

    Fields of V2 layers stay, as in Caffe, which ignores them there. Before::

        layers { name: "d" type: DATA top: "d" data_param { crop_size: 227 } }

    After::

        layers { name: "d" type: DATA top: "d" transform_param { crop_size: 227 } }
    """
    for v1 in draft.net.layers:
        parameter = DATA_PARAMETERS.get(enum_name(v1, "type"))
        if parameter is not None and v1.HasField(parameter):
            source = getattr(v1, parameter)
            for field in MOVED:
                if source.HasField(field):
                    setattr(v1.transform_param, field, getattr(source, field))
                    source.ClearField(field)


def upgrade_v1(draft: Draft) -> None:
    """Upgrade V1 layers to V2 (Caffe: UpgradeV1Net).

    Before::

        layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2 }

    After::

        layer { name: "c" type: "Convolution" bottom: "x" top: "c"
          param { lr_mult: 1 } param { lr_mult: 2 } }
    """
    net = draft.net
    net.layer.extend([_upgrade_layer(v1) for v1 in net.layers])
    del net.layers[:]


def _upgrade_layer(v1: Message) -> Message:
    v2 = message_class("LayerParameter")()
    for descriptor, value in v1.ListFields():
        field = descriptor.name
        if field == "type":
            name = enum_name(v1, "type")
            words = (word.capitalize() for word in name.split("_"))
            v2.type = OTHER_WORDS.get(name, "".join(words))
        elif field in PARAM_SPEC:
            while len(v2.param) < len(value):
                v2.param.add()
            for spec, number in zip(v2.param, value, strict=False):
                setattr(spec, PARAM_SPEC[field], number)
        else:
            put_field(v2, field, value)
    other_types = [unknown for unknown in v2.unknown_field if _is_type(unknown)]
    for unknown in other_types:
        v2.unknown_field.remove(unknown)
        word = unknown.text.partition(":")[2].strip() or f"number {_number(unknown)}{OF_A_FORK}"
        v2.type = type_of_v1(word)
        cls = find_layer(v2.type)
        if cls is not None and cls.parameters is not None:
            cls.parameters.take_over(v2)
    return v2


def _is_type(unknown: Message) -> bool:
    return not unknown.parent and (unknown.name == "type" or unknown.number == V1_TYPE)


def _number(unknown: Message) -> int:
    (item,) = Fields(unknown.data, "the file").items(0, len(unknown.data))
    return item.value


def similar_type(word: str) -> str | None:
    """The known type that ``word`` was meant for: V1's name of it, or a slip of the pen."""
    known = all_layers()
    same = OTHER_WORDS.get(word.upper()) or type_of_v1(word)
    return same if same in known else next(iter(get_close_matches(word, known, 1, CLOSE)), None)


def upgrade_input(draft: Draft) -> None:
    """Put an Input layer named ``input`` with all inputs as tops first (Caffe: UpgradeNetInput).

    ``input_shape`` wins over ``input_dim`` (four numbers an input, five in a net of C3D 1.0,
    which has layers over volumes), and entries beyond the
    number of inputs are ignored. Nets that Caffe saved once listed ``input`` without any
    shape: the Input layer then has none either, and an input that a layer of the net makes is
    that layer's. Raises NetError if some inputs have a shape and others none. Before::

        input: "data" input_dim: 1 input_dim: 3 input_dim: 227 input_dim: 227

    After::

        layer { name: "input" type: "Input" top: "data"
          input_param { shape { dim: 1 dim: 3 dim: 227 dim: 227 } } }
    """
    net = draft.net
    shapes = _shapes(net)
    made = {top for layer in net.layer for top in layer.top if top not in layer.bottom}
    names = [name for name in net.input if shapes or name not in made]
    if names:
        layer = message_class("LayerParameter")(name="input", type="Input", top=names)
        for shape in shapes:
            layer.input_param.shape.add(dim=shape)
        replace_all(net.layer, [layer, *net.layer])
    for field in ("input", "input_shape", "input_dim"):
        net.ClearField(field)


def _shapes(net: Message) -> list[Sequence[int]]:
    """The shape of each input, none if the net gives no shape at all."""
    dims = net.input_dim
    of_volumes = len(dims) == 5 * len(net.input) and any(
        layer.type.endswith("3D") for layer in net.layer
    )
    axes = 5 if of_volumes else 4
    shapes = [shape.dim for shape in net.input_shape] or [
        dims[start : start + axes] for start in range(0, len(dims) - axes + 1, axes)
    ]
    if (net.input_shape or dims) and len(shapes) < len(net.input):
        raise NetError(
            f"{len(net.input)} inputs ({', '.join(net.input)}) but shapes for {len(shapes)}; "
            "give each one input_shape, or each four input_dim"
        )
    return shapes[: len(net.input)]


def upgrade_batch_norm(draft: Draft) -> None:
    """Set ``lr_mult`` and ``decay_mult`` of BatchNorm layers that declare three blobs to 0.

    Old nets could write other values there; Caffe now refuses those, as the blobs are
    running statistics that no solver may change. Before::

        layer { name: "bn" type: "BatchNorm" param { lr_mult: 1 } param { } param { } }

    After: ``param { lr_mult: 0 decay_mult: 0 }``, three times.
    """
    for layer in draft.net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:
            for spec in layer.param:
                spec.lr_mult = 0
                spec.decay_mult = 0
