"""What the fields mean that Caffe's schema does not know, now that the layers' types are known."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from caffe2torch.errors import ReadError
from caffe2torch.io.caffemodel import check_text
from caffe2torch.io.schema import FIRST_PRIVATE, Message, message_class, replace_all
from caffe2torch.io.unknown import COMMON, is_message, split_known
from caffe2torch.layers import find_layer, type_name
from caffe2torch.passes.draft import Draft
from caffe2torch.passes.upgrade import V1_TYPE


def decode_parameters(draft: Draft) -> None:
    r"""Decode the parameter messages of layers of a binary, which are kept as bytes until here.

    Their numbers are Caffe's, but in a layer whose class declares a message of its own: there,
    each message is that one. What Caffe does not know within its messages stays unknown, for the
    layer's class to claim or to be refused; beside them, Caffe ignores it. Raises ReadError for
    bytes that are no message. Before::

        layer { name: "d" type: "Dropout" unknown_field { number: 108 data: "..." } }

    After::

        layer { name: "d" type: "Dropout" dropout_param { dropout_ratio: 0.5 }
          unknown_field { parent: "dropout_param" number: 2 data: "\020\000" } }
    """
    for layer in (*draft.net.layer, *draft.net.layers):
        if any(unknown.HasField("number") for unknown in layer.unknown_field):
            replace_all(layer.unknown_field, _decoded(layer))


def claim_parameters(draft: Draft) -> None:
    """Give unknown fields to the layers whose classes declare them, written as in a prototxt.

    Raises ReadError where they are not what the class declares. Before::

        layer { type: "Reorg" unknown_field { number: 150 data: "..." } }

    After::

        layer { type: "Reorg"
          unknown_field { name: "reorg_param" text: "reorg_param { stride: 2 }" } }
    """
    for layer in draft.net.layer:
        cls = find_layer(type_name(layer))
        if cls is not None and cls.parameters is not None:
            parameters = cls.parameters
            parameters.take_over(layer)
            others = [u for u in layer.unknown_field if not parameters.claims(u)]
            replace_all(layer.unknown_field, [*parameters.as_text(layer), *others])


def _decoded(layer: Message) -> list[Message]:
    """The UnknownFields that are left of ``layer`` when what Caffe knows is decoded into it."""
    is_v1 = layer.DESCRIPTOR.name == "V1LayerParameter"
    cls = None if is_v1 else find_layer(type_name(layer))
    own = cls.parameters if cls is not None else None
    has_own = own is not None and own.is_own
    others = {*COMMON}
    if own is not None and own.beside:
        others.add(layer.DESCRIPTOR.fields_by_name[own.beside].number)
    left: list[Message] = []
    for field in layer.unknown_field:
        if not field.HasField("number") or (
            has_own and is_message(field) and field.number not in others
        ):
            left.append(field)
            continue
        try:
            known, unknown = split_known(layer.DESCRIPTOR, field.data, FIRST_PRIVATE)
            layer.MergeFromString(known)
        except (ReadError, DecodeError) as error:
            raise ReadError(
                f"layer {layer.name!r}: its field {field.number} cannot be read: {error}"
            ) from None
        fields = [message_class("UnknownField")(**item._asdict()) for item in unknown]
        left += [f for f in fields if f.parent or is_message(f) or (is_v1 and f.number == V1_TYPE)]
    check_text(layer, f"layer {layer.name!r}")
    return left
