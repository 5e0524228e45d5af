"""Turn data layers into inputs: their shape and their preprocessing record."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from caffe2torch.errors import NetError
from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, message_class
from caffe2torch.layers import Role, net_error
from caffe2torch.layers._data import DataLayer, read_transform_param
from caffe2torch.passes.draft import MAX_COUNT, Draft, DraftNode
from caffe2torch.passes.resolve import class_of, resolve_layer
from caffe2torch.passes.suggest_shape import channels_of_weights, suggested_shape
from caffe2torch.preprocessing import Preprocessing


def replace_data_layers(draft: Draft) -> None:
    """Replace every data layer by an Input of one image (N = 1) and keep its preprocessing.

    The size of its first top is the layer's crop; the number of channels is what the layer or
    its mean says, or what the weights of the first layer that reads it want. An Input layer is
    kept, and the record of its preprocessing taken out. ``input_shapes`` (by blob name)
    overrides the shape of any input. Raises NetError where a shape stays unknown. Before::

        layer { name: "d" type: "Data" top: "x" data_param { batch_size: 64 }
          transform_param { crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123 } }

    After, with the preprocessing crop_size=227 mean=(104, 117, 123)::

        layer { name: "d" type: "Input" top: "x"
          input_param { shape { dim: 1 dim: 3 dim: 227 dim: 227 } } }
    """
    input_shapes = draft.options.input_shapes
    inputs = [blob for node in draft.sources for blob in node.outputs]
    if absent := set(input_shapes) - set(inputs):
        raise NetError(
            f"the net has no input {sorted(absent)[0]!r}; its inputs are "
            f"{', '.join(repr(blob) for blob in inputs)}."
        )
    for blob, given in input_shapes.items():
        if prod(given) > MAX_COUNT:
            raise NetError(
                f"the input {blob!r} cannot have the shape {given}: a blob has fewer than 2**31 "
                "elements."
            )
    sources, lacking = [], dict[str, NetError]()
    for node in draft.sources:
        if isinstance(node.layer, DataLayer):
            draft.preprocessing = draft.preprocessing or node.layer.preprocessing
            declared = _data_shapes(node, node.layer, draft, lacking)
        else:
            if node.proto.HasField("transform_param"):
                draft.preprocessing = draft.preprocessing or read_transform_param(node.proto)
            declared = _input_shapes(node, draft, lacking)
        if not lacking:
            pairs = zip(node.outputs, declared, strict=True)
            sources.append(_input_node(node, [input_shapes.get(b, shape) for b, shape in pairs]))
    if lacking:
        first, *others = lacking
        error = lacking[first]
        more = f" {', '.join(map(repr, others))} also lack a shape." if others else ""
        raise NetError(
            error.reason + more,
            layer=error.layer,
            type=error.type,
            field=error.field,
            near=error.near,
        )
    draft.sources = sources


def find_preprocessing(layers: Sequence[Message]) -> Preprocessing | None:
    """The preprocessing of the first data layer among ``layers``, or on an Input layer."""
    for proto in layers:
        cls = class_of(proto)
        if cls is not None and cls.role is Role.INPUT and proto.HasField("transform_param"):
            return read_transform_param(proto)
        if cls is not None and cls.role is Role.DATA:
            layer = cls.from_proto(proto)
            assert isinstance(layer, DataLayer)
            return layer.preprocessing
    return None


def _input_shapes(node: DraftNode, draft: Draft, lacking: dict[str, NetError]) -> list[Shape]:
    """The shapes that an Input layer gives its tops; without any, those that the caller gives.

    Errors for those without go to ``lacking``.
    """
    if node.layer.infer_shapes(()):
        return list(node.layer.infer_shapes(()))
    given = draft.options.input_shapes
    for blob in node.outputs:
        if blob not in given:
            lacking[blob] = net_error(
                node.proto,
                f"the net does not give the shape of the input {blob!r}. Give it (--input-shape "
                f"{blob}={suggested_shape(blob, draft)}) or write it into the net: "
                "input_shape { dim: .. }, or in an Input layer input_param { shape { dim: .. } }.",
                "top",
            )
    return [given[blob] for blob in node.outputs if blob in given]


def _input_node(node: DraftNode, shapes: Sequence[Shape]) -> DraftNode:
    proto = message_class("LayerParameter")(name=node.proto.name, type="Input")
    proto.phase = node.proto.phase
    proto.top[:] = node.outputs
    for shape in shapes:
        proto.input_param.shape.add().dim[:] = shape
    return DraftNode(proto, resolve_layer(proto), (), node.outputs)


def _data_shapes(
    node: DraftNode, layer: DataLayer, draft: Draft, lacking: dict[str, NetError]
) -> list[Shape]:
    """The shapes of the tops that are fed; errors for those without go to ``lacking``."""
    cls = class_of(node.proto)
    sampled = cls.sampled_shapes(node.proto) if cls is not None else None
    shapes: list[Shape] = []
    for blob in node.outputs:
        position = list(node.proto.top).index(blob)
        try:
            if blob in draft.options.input_shapes:
                shapes.append(draft.options.input_shapes[blob])
            elif sampled is not None:
                shapes.append(tuple(sampled[position]))
            elif position == 0:
                shapes.append(_image_shape(node.proto, blob, layer, draft))
            else:
                # Only an image is read by a convolution; a label may have any shape.
                is_image = channels_of_weights(blob, draft) is not None
                shape = suggested_shape(blob, draft) if is_image else "1,..."
                raise net_error(
                    node.proto,
                    f"the shape of the input {blob!r} is not in the net. Give it "
                    f"(--input-shape {blob}={shape}), or give a deploy prototxt.",
                )
        except NetError as error:
            lacking[blob] = error
    return shapes


def _image_shape(proto: Message, blob: str, layer: DataLayer, draft: Draft) -> Shape:
    if layer.crop is None:
        raise net_error(
            proto,
            f"the size of the input {blob!r} is not in the net: its data layer has no crop_size. "
            f"Give it (--input-shape {blob}={suggested_shape(blob, draft)}), or give a deploy "
            "prototxt.",
            "transform_param.crop_size",
        )
    channels = layer.channels or channels_of_weights(blob, draft, layer.crop)
    if channels is None and layer.preprocessing and len(layer.preprocessing.mean) > 1:
        channels = len(layer.preprocessing.mean)
    if channels is None:
        height, width = layer.crop
        raise net_error(
            proto,
            f"the number of channels of the input {blob!r} is neither in the net nor in its "
            f"weights. Give the shape (--input-shape {blob}=1,C,{height},{width}), or a deploy "
            "prototxt.",
        )
    return (1, channels, *layer.crop)
