"""From resolved layers and their weights to the Graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import FloatArray, Graph, Node, Shape
from caffe2torch.io.schema import Message, message_class
from caffe2torch.passes.attach_weights import LearnedLayer, Slot, attach_weights, share_blobs
from caffe2torch.passes.blob_source import BlobSource
from caffe2torch.passes.infer_shapes import infer_step
from caffe2torch.passes.naming import module_keys
from caffe2torch.passes.resolve import Resolved, resolve


def build_graph(
    net: Resolved,
    weights: BlobSource,
    *,
    name: str,
    phase: str,
    allow_missing: bool = False,
    strict: bool = False,
) -> Graph:
    """Infer shapes, attach the weights and freeze the net, whose sources are Input layers.

    Raises NetError and WeightsError as the passes do.
    """
    shapes = infer_shapes(net)
    learned = _learned_layers(net, shapes)
    values, warnings = attach_weights(learned, weights, allow_missing=allow_missing, strict=strict)
    graph = _freeze(net, shapes, learned, values, name, phase)
    return replace(graph, warnings=tuple(warnings))


def restore_graph(
    net: Resolved, params: Mapping[str, FloatArray], *, name: str, phase: str
) -> Graph:
    """Rebuild a graph from its definition and its arrays by graph key.

    Raises ArtefactError where an array is missing, superfluous or has another shape.
    """
    graph = _without_values(net, name, phase)
    if graph.params.keys() != params.keys():
        odd = sorted(graph.params.keys() ^ params.keys())[0]
        raise ArtefactError(f"the array {odd!r} is not in both the net and its weights.")
    for key, array in params.items():
        if array.shape != graph.params[key].shape:
            raise ArtefactError(
                f"the array {key!r} has the shape {array.shape}, its net wants "
                f"{graph.params[key].shape}."
            )
    return replace(graph, params={key: params[key] for key in graph.params})


def rebuild_graph(
    graph: Graph, layers: Sequence[tuple[Message, Mapping[str, FloatArray]]]
) -> Graph:
    """``graph`` with other layers: their messages and their arrays, by the layers' own names.

    Inputs, outputs and what the graph records stay.
    """
    net = message_class("NetParameter")(layer=[*graph.sources, *(proto for proto, _ in layers)])
    changed = _without_values(resolve(net), graph.name, graph.phase)
    params = {
        key: own[local]
        for node, (_, own) in zip(changed.nodes, layers, strict=True)
        for local, key in node.params.items()
    }
    return replace(
        graph, nodes=changed.nodes, blobs=changed.blobs, shapes=changed.shapes, params=params
    )


def infer_shapes(net: Resolved) -> dict[str, Shape]:
    """Return the shape of every value of ``net``."""
    shapes: dict[str, Shape] = {}
    for step in [*net.sources, *net.steps]:
        tops = infer_step(step.layer, _at(shapes, step.inputs))
        shapes.update(zip(step.outputs, tops, strict=True))
    return shapes


def _learned_layers(net: Resolved, shapes: Mapping[str, Shape]) -> list[LearnedLayer]:
    learned = [
        LearnedLayer(step.proto, step.layer, step.layer.blob_specs(_at(shapes, step.inputs)))
        for step in net.steps
    ]
    share_blobs(learned)
    return learned


def _without_values(net: Resolved, name: str, phase: str) -> Graph:
    """The graph of ``net`` with arrays that have their shapes and take no memory."""
    shapes = infer_shapes(net)
    learned = _learned_layers(net, shapes)
    blank = {
        owner: np.broadcast_to(np.float32(0), spec.shape)
        for layer in learned
        for owner, spec in zip(layer.owners, layer.specs, strict=True)
    }
    return _freeze(net, shapes, learned, blank, name, phase)


def _freeze(
    net: Resolved,
    shapes: Mapping[str, Shape],
    learned: Sequence[LearnedLayer],
    values: Mapping[Slot, FloatArray],
    name: str,
    phase: str,
) -> Graph:
    arrays = [
        step.layer.import_blobs([values[o] for o in layer.owners], _at(shapes, step.inputs))
        if layer.owners
        else {}
        for step, layer in zip(net.steps, learned, strict=True)
    ]
    keys = module_keys([step.layer.name for step in net.steps], arrays)
    names = _graph_keys(keys, learned, values, arrays)
    nodes = [
        Node(step.layer, _without_blobs(step.proto), key, step.inputs, step.outputs, params)
        for step, key, params in zip(net.steps, keys, names, strict=True)
    ]
    return Graph(
        name=name,
        phase=phase,
        sources=tuple(_without_blobs(step.proto) for step in net.sources),
        nodes=tuple(nodes),
        outputs=net.outputs,
        blobs=net.blobs,
        shapes=shapes,
        params={
            full: own[local]
            for params, own in zip(names, arrays, strict=True)
            for local, full in params.items()
        },
        preprocessing=net.preprocessing,
    )


def _graph_keys(
    keys: Sequence[str],
    learned: Sequence[LearnedLayer],
    values: Mapping[Slot, FloatArray],
    arrays: Sequence[Mapping[str, FloatArray]],
) -> list[dict[str, str]]:
    """Name the arrays; one that several layers share gets the key of the first.

    An array is shared if it is the very blob of an owner, or was made from the same blobs.
    """
    slot_of = {id(array): slot for slot, array in values.items()}
    taken: dict[object, str] = {}
    return [
        {
            name: taken.setdefault(
                slot_of.get(id(array), (name, tuple(layer.owners))), f"{key}.{name}"
            )
            for name, array in own.items()
        }
        for key, layer, own in zip(keys, learned, arrays, strict=True)
    ]


def _without_blobs(proto: Message) -> Message:
    if not proto.blobs:
        return proto
    bare = deepcopy(proto)
    bare.ClearField("blobs")
    return bare


def _at(shapes: Mapping[str, Shape], names: Sequence[str]) -> list[Shape]:
    return [shapes[name] for name in names]
