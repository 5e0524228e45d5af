"""The end of the passes: names of modules and arrays, and the Graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy

from caffe2torch.graph import FloatArray, Graph, Node
from caffe2torch.io.schema import Message
from caffe2torch.passes.attach_weights import reshaped
from caffe2torch.passes.draft import Draft, DraftNode
from caffe2torch.passes.naming import module_keys


def to_graph(draft: Draft) -> Graph:
    """The graph of a draft that has been through the passes."""
    arrays = [_arrays(node, draft) for node in draft.nodes]
    keys = module_keys([node.layer.name for node in draft.nodes], arrays)
    names = _graph_keys(keys, draft, arrays)
    return Graph(
        name=draft.net.name,
        phase=draft.state.phase,
        sources=tuple(_bare(node.proto) for node in draft.sources),
        nodes=tuple(
            Node(node.layer, _bare(node.proto), key, node.inputs, node.outputs, params)
            for node, key, params in zip(draft.nodes, keys, names, strict=True)
        ),
        outputs=draft.outputs,
        blobs=draft.blobs,
        shapes=draft.shapes,
        params={
            full: own[local]
            for params, own in zip(names, arrays, strict=True)
            for local, full in params.items()
        },
        preprocessing=draft.preprocessing,
        warnings=tuple(draft.warnings),
        origin=draft.origin,
    )


def _arrays(node: DraftNode, draft: Draft) -> Mapping[str, FloatArray]:
    """The learned arrays of a layer by its own names, in torch's form."""
    if not node.owners:
        return {}
    bottoms = [draft.shapes[value] for value in node.inputs]
    blobs = zip(node.owners, node.specs, strict=True)
    values = [reshaped(draft.values[owner], spec.shape) for owner, spec in blobs]
    return node.layer.import_blobs(values, bottoms)


def _graph_keys(
    keys: Sequence[str], draft: Draft, arrays: Sequence[Mapping[str, FloatArray]]
) -> list[dict[str, str]]:
    """Name the arrays; one that several layers share gets the key of the first.

    An array is shared if it is the very blob of an owner, or was made from the same blobs and
    has the same shape.
    """
    slot_of = {id(array): slot for slot, array in draft.values.items()}
    taken: dict[object, str] = {}
    return [
        {
            name: taken.setdefault(
                slot_of.get(id(array), (name, tuple(node.owners), array.shape)), f"{key}.{name}"
            )
            for name, array in own.items()
        }
        for key, node, own in zip(keys, draft.nodes, arrays, strict=True)
    ]


def _bare(proto: Message) -> Message:
    """The layer without its blobs and its place in a file, which are no part of a graph."""
    if not proto.blobs and not proto.place:
        return proto
    bare = deepcopy(proto)
    bare.ClearField("blobs")
    bare.ClearField("place")
    return bare
