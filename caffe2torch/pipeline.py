"""From a net's message and its weights to the Graph: the passes, and the one run of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io.caffemodel import Weights
from caffe2torch.io.origin import Origin, located
from caffe2torch.io.schema import Message, message_class
from caffe2torch.passes.align_crops import align_crops
from caffe2torch.passes.attach_weights import attach_weights, share_blobs
from caffe2torch.passes.data_layers import replace_data_layers
from caffe2torch.passes.draft import DEFAULTS, TEST, BlobSource, Draft, Options, Pass, State
from caffe2torch.passes.filter_layers import feed_missing, filter_layers, remove_splits
from caffe2torch.passes.hints import drop_hints
from caffe2torch.passes.name_warps import name_warps
from caffe2torch.passes.parameters import claim_parameters, decode_parameters
from caffe2torch.passes.propagate_shapes import propagate_shapes
from caffe2torch.passes.resolve import resolve
from caffe2torch.passes.to_graph import to_graph
from caffe2torch.passes.training_only import leave_out_training
from caffe2torch.passes.until import keep_until
from caffe2torch.passes.upgrade import (
    blob_owner_names,
    check_generation,
    upgrade_batch_norm,
    upgrade_data,
    upgrade_input,
    upgrade_v1,
)
from caffe2torch.passes.upgrade_v0 import upgrade_v0

UPGRADES: tuple[Pass, ...] = (
    check_generation,
    decode_parameters,
    upgrade_v0,
    upgrade_data,
    upgrade_v1,
    upgrade_input,
    upgrade_batch_norm,
)
"""To V2 messages, from whatever generation."""

PASSES: tuple[Pass, ...] = (
    *UPGRADES,
    filter_layers,
    remove_splits,
    feed_missing,
    keep_until,
    drop_hints,
    claim_parameters,
    name_warps,
    leave_out_training,
    resolve,
    align_crops,
    replace_data_layers,
    propagate_shapes,
    share_blobs,
    attach_weights,
)
"""From what was read to what a graph is made of."""

LINK: tuple[Pass, ...] = (resolve, propagate_shapes, share_blobs, attach_weights)
"""The same for a net whose layers have been through the others: a graph's own."""


def build_graph(
    net: Message,
    weights: BlobSource | None = None,
    state: State = TEST,
    options: Options = DEFAULTS,
) -> Graph:
    """The graph of a NetParameter of any generation, which is not changed.

    Without ``weights`` its arrays have their shapes and take no memory; ``BlobSource()`` is a
    net without a weights file, which keeps the values of the fillers that its author chose.

    Raises:
        NetError: Caffe would refuse the net, or a shape is not known.
        UnsupportedLayerError: it has a layer or a parameter without an exact conversion.
        WeightsError: the weights are not those of the net.
    """
    origin = Origin.of(net)
    with located(origin):
        return to_graph(run(PASSES, Draft(deepcopy(net), weights, state, options, origin)))


def blob_source(weights: Weights | None) -> BlobSource:
    """The blobs of a weights file by layer name; without one, a source of none."""
    if weights is None:
        return BlobSource()
    entries = zip(blob_owner_names(weights.net), weights.blobs, strict=True)
    return BlobSource(weights.path, tuple(entries), given=True)


def upgrade_net(net: Message) -> Message:
    """An upgraded copy of a NetParameter: ``layer`` entries only, inputs as an Input layer.

    V0 padding layers vanish, so match layers with those of the file by name. Raises NetError
    where Caffe would refuse the net.
    """
    with located(Origin.of(net)):
        return run(UPGRADES, Draft(deepcopy(net))).net


def restore_graph(definition: Message, params: Mapping[str, FloatArray], phase: str) -> Graph:
    """The graph of a ``Graph.definition`` and its arrays by graph key.

    Raises ArtefactError where an array is missing, superfluous or has another shape.
    """
    return with_params(to_graph(run(LINK, Draft(definition, state=State(phase)))), params)


def with_params(graph: Graph, params: Mapping[str, FloatArray]) -> Graph:
    """``graph`` with other arrays, by graph key. Raises ArtefactError as ``restore_graph``."""
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


def with_layers(graph: Graph, layers: Sequence[tuple[Message, Mapping[str, FloatArray]]]) -> Graph:
    """``graph`` with other layers: their messages and their arrays, by the layers' own names.

    Inputs, outputs and what the graph records stay.
    """
    net = message_class("NetParameter")(layer=[*graph.sources, *(proto for proto, _ in layers)])
    changed = to_graph(run(LINK, Draft(net, state=State(graph.phase))))
    params = {
        key: own[local]
        for node, (_, own) in zip(changed.nodes, layers, strict=True)
        for local, key in node.params.items()
    }
    return replace(
        graph, nodes=changed.nodes, blobs=changed.blobs, shapes=changed.shapes, params=params
    )


def run(passes: Sequence[Pass], draft: Draft) -> Draft:
    """Put ``draft`` through the passes. A traceback of an error names the pass."""
    for step in passes:
        try:
            step(draft)
        except Exception as error:
            # What add_note does, which Python 3.10 does not have.
            notes = [*getattr(error, "__notes__", ()), f"in the pass {step.__name__}"]
            error.__notes__ = notes  # type: ignore[attr-defined]
            raise
    return draft
