"""A net of one phase with its data and its losses, as a running Caffe holds it (net.cpp)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from caffe2torch.data import Source, open_source
from caffe2torch.graph import Graph, Node
from caffe2torch.io.origin import Origin, located
from caffe2torch.io.schema import Message, message_class, replace_all
from caffe2torch.layers import Role, net_error, type_name, unsupported
from caffe2torch.lower.to_torch import CaffeModule, to_torch
from caffe2torch.passes.draft import BlobSource, Draft, Options, State
from caffe2torch.passes.filter_layers import filter_layers
from caffe2torch.passes.resolve import AUTOMATIC, class_of, role_of
from caffe2torch.pipeline import UPGRADES, build_graph, run
from caffe2torch.training.backward import Needs, needs_of, open_cuts
from caffe2torch.training.learned import LearnedBlob, learned_blobs

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingNet:
    """A net that can run: the graph, its module, and what feeds it.

    ``net`` is the definition in Caffe's terms, data layers and all, of the layers of this phase.
    ``sources`` are what the data layers read, by layer name in the net's order. ``needs`` says
    what backward computes of each node.
    ``loss_weights`` is the weight, by value, of every top that counts into the loss, and
    ``idle_losses`` are those among them whose weight goes into no gradient. ``outputs`` are the
    blobs that Caffe reports, in its order. ``learned`` are the learned blobs in Caffe's order,
    each once.
    """

    net: Message
    graph: Graph
    module: CaffeModule
    sources: Mapping[str, Source]
    loss_weights: Mapping[str, float]
    idle_losses: frozenset[str]
    outputs: tuple[str, ...]
    learned: tuple[LearnedBlob, ...]
    needs: Sequence[Needs]

    def inputs(self, batches: Mapping[str, Sequence[T]]) -> dict[str, T]:
        """What the module is fed, by blob, of the tops of each data layer, given by its name."""
        tops = {layer.name: layer.top for layer in self.net.layer}
        return {
            blob: value
            for name, batch in batches.items()
            for blob, value in zip(tops[name], batch, strict=True)
        }

    def loss(self, values: Mapping[str, Tensor]) -> Tensor:
        """The sum of all losses, each with its weight, from the values of a pass.

        A top of any size counts with the sum of its elements (Caffe: Layer::Forward).
        """
        return self._sum(values, self.loss_weights)

    def objective(self, values: Mapping[str, Tensor]) -> Tensor:
        """What the gradients are of: ``loss`` without the idle losses."""
        return self._sum(values, self.loss_weights.keys() - self.idle_losses)

    def _sum(self, values: Mapping[str, Tensor], counted: Collection[str]) -> Tensor:
        terms = [
            w * values[value].sum() for value, w in self.loss_weights.items() if value in counted
        ]
        return torch.stack(terms).sum() if terms else torch.zeros(())


def open_net(
    net: Message,
    state: State,
    *,
    folder: Path | None = None,
    weights: BlobSource | None = None,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    splits: bool = False,
) -> TrainingNet:
    """Set up the net of ``state`` from a NetParameter of any generation, which is not changed.

    Args:
        net: the definition, data layers and losses included.
        state: the phase, level and stages that decide which layers are in the net.
        folder: where relative paths of data sources are looked for, after the current one.
        weights: values of learned blobs by layer name; the others keep their filler's values.
        seed: of the fillers and of all that the data layers draw.
        rank: this process among the ``world`` that share out the data of phase TRAIN.
        world: the number of processes.
        splits: insert a Split layer wherever several layers read a blob, as Caffe does.

    Raises:
        NetError: Caffe would refuse the net.
        UnsupportedLayerError: it has a layer or a parameter that is not known.
        ReadError: a source of its data is missing, empty or damaged.
    """
    origin = Origin.of(net)
    with located(origin):
        filtered = layers_of(net, state)
        for proto in filtered.layer:
            cls = class_of(proto)
            if cls is None or not (cls.converts or cls.role is Role.DATA):
                raise unsupported(
                    proto, f"layer type {type_name(proto)!r} is not supported in training.", "type"
                )
        _name_automatic_tops(filtered)
        if splits:
            insert_splits(filtered)
        sources: dict[str, Source] = {}
        for proto in filter(_reads_data, filtered.layer):
            if proto.name in sources:
                raise net_error(
                    proto, "another data layer of this phase has its name; rename one", "name"
                )
            sources[proto.name] = open_source(
                proto, state.phase, folder=folder, seed=seed, rank=rank, world=world
            )
    fed = deepcopy(filtered)
    replace_all(fed.layer, [_as_input(proto, sources) for proto in fed.layer])
    for proto in fed.layer:  # It has been filtered, by the file's own state as well.
        proto.ClearField("include")
        proto.ClearField("exclude")
    options = Options(allow_missing=True, seed=seed, runs=True)
    graph = build_graph(fed, weights or BlobSource(), state, options)
    layers = split_layers(filtered, graph)
    needs = needs_of(layers, graph, force=filtered.force_backward)
    open_cuts(layers, needs)
    module = to_torch(graph)
    for node in graph.nodes:
        if node.layer.learns_in_test:
            module.get_submodule(node.key).training = True
    by_node = {id(node): one for (_, node), one in zip(layers, needs, strict=True) if node}
    loss_weights = _loss_weights(graph)
    return TrainingNet(
        net=filtered,
        graph=graph,
        module=module,
        sources=sources,
        loss_weights=loss_weights,
        idle_losses=_idle_losses(graph, by_node) & loss_weights.keys(),
        outputs=tuple(blob for blob in graph.outputs if not blob.startswith(AUTOMATIC)),
        learned=learned_blobs(graph, module, by_node),
        needs=[by_node[id(node)] for node in graph.nodes],
    )


def split_layers(net: Message, graph: Graph) -> list[tuple[Message, Node | None]]:
    """The layers of ``TrainingNet.net`` with the Splits that Caffe inserts, each with its node.

    Inputs, data layers, and Splits that the net was not opened with, have no node.
    """
    named = deepcopy(net)
    insert_splits(named)
    nodes: dict[str, list[Node]] = {}
    for node in graph.nodes:
        nodes.setdefault(node.layer.name, []).append(node)
    found: list[tuple[Message, Node | None]] = []
    for proto in named.layer:
        is_fed = role_of(proto) is Role.INPUT or _reads_data(proto)  # Another may have its name.
        own = None if is_fed else nodes.get(proto.name)
        found.append((proto, own.pop(0) if own else None))
    return found


def insert_splits(net: Message) -> None:
    """Give every reader of a blob a top of its own, from a Split layer (insert_splits.cpp).

    A loss that is also read counts as a reader. Names are Caffe's: the Split of top 0, ``x``, of
    the layer ``l`` is ``x_l_0_split``, its tops are ``x_l_0_split_0``, ``x_l_0_split_1``, ...
    Before::

        layer { name: "l" type: "Input" top: "x" }
        layer { name: "a" type: "TanH" bottom: "x" top: "a" }
        layer { name: "b" type: "TanH" bottom: "x" top: "b" }

    After: the layer ``x_l_0_split`` follows ``l``, and ``a`` and ``b`` read its tops.
    """
    layers = list(net.layer)
    maker: dict[str, tuple[int, int]] = {}
    reads: dict[tuple[int, int], tuple[int, int]] = {}
    readers: Counter[tuple[int, int]] = Counter()
    weighted: dict[tuple[int, int], float] = {}
    for index, proto in enumerate(layers):
        for position, bottom in enumerate(proto.bottom):
            if bottom in maker:
                reads[index, position] = maker[bottom]
                readers[maker[bottom]] += 1
        for position, top in enumerate(proto.top):
            maker[top] = (index, position)
        # A weight that is not written, a loss's default, counts for none here, as in Caffe.
        for position, weight in enumerate(list(proto.loss_weight)[: len(proto.top)]):
            if weight:
                weighted[index, position] = weight
                readers[index, position] += 1
    result = []
    taken: Counter[tuple[int, int]] = Counter()
    for index, proto in enumerate(layers):
        for position in range(len(proto.bottom)):
            made = reads.get((index, position))
            if made is not None and readers[made] > 1:
                proto.bottom[position] = _split_top(layers, made, taken[made])
                taken[made] += 1
        result.append(proto)
        for position, top in enumerate(proto.top):
            made = (index, position)
            if readers[made] < 2:
                continue
            split = message_class("LayerParameter")(
                name=f"{top}_{proto.name}_{position}_split", type="Split", bottom=[top]
            )
            split.phase = proto.phase
            split.top[:] = [_split_top(layers, made, n) for n in range(readers[made])]
            if made in weighted:
                # The first top is the loss, and no layer reads it.
                proto.ClearField("loss_weight")
                split.loss_weight[:] = [weighted[made]] + [0] * (readers[made] - 1)
                taken[made] += 1
            result.append(split)
    replace_all(net.layer, result)


def _split_top(layers: Sequence[Message], made: tuple[int, int], number: int) -> str:
    index, position = made
    proto = layers[index]
    return f"{proto.top[position]}_{proto.name}_{position}_split_{number}"


def layers_of(net: Message, state: State) -> Message:
    """The net with the layers of ``state`` in today's form, as a running Caffe keeps it.

    They still have the rules by which they were chosen. ``net`` is of any generation, and is not
    changed.
    """
    draft = run(UPGRADES, Draft(deepcopy(net), state=state))
    layers = [deepcopy(layer) for layer in draft.net.layer]
    run((filter_layers,), draft)
    excluded = list(draft.excluded)
    kept = iter(draft.net.layer)
    for layer in layers:
        if excluded and layer == excluded[0]:
            excluded.pop(0)
        else:
            proto = next(kept)
            proto.include.extend(layer.include)
            proto.exclude.extend(layer.exclude)
    return draft.net


def _name_automatic_tops(net: Message) -> None:
    """Give a loss without a top the one that Caffe makes for it (Net::AppendTop)."""
    for index, proto in enumerate(net.layer):
        cls = class_of(proto)
        if cls is not None and not proto.top and cls.default_loss_weight:
            proto.top.append(f"{AUTOMATIC}{index}")


def saved_layer(proto: Message, loss_weight: float, statistics: Sequence[int] = ()) -> Message:
    """A layer of ``TrainingNet.net`` as Caffe saves it (Net::ToProto), in a message of its own.

    A loss states its weight, ``loss_weight`` if it gives none, and has no automatic top.
    Learned blobs that are ``statistics`` state that they do not learn (batch_norm_layer.cpp).
    """
    saved = deepcopy(proto)
    for index in statistics:
        if len(saved.param) == index:
            saved.param.add(lr_mult=0)
    if saved.top and saved.top[0].startswith(AUTOMATIC):
        saved.ClearField("top")
    if loss_weight and not saved.loss_weight:
        saved.loss_weight.append(loss_weight)
    return saved


def _reads_data(proto: Message) -> bool:
    return role_of(proto) in (Role.DATA, Role.SAMPLE)


def _as_input(proto: Message, sources: Mapping[str, Source]) -> Message:
    """A data layer as an Input layer with the shapes of its batches; others as they are."""
    if not _reads_data(proto):
        return proto
    fed = message_class("LayerParameter")(name=proto.name, type="Input")
    fed.top[:] = proto.top
    fed.phase = proto.phase
    for shape in sources[proto.name].shapes:
        fed.input_param.shape.add().dim[:] = shape
    return fed


def _loss_weights(graph: Graph) -> dict[str, float]:
    weights: dict[str, float] = {}
    for node in graph.nodes:
        given = list(node.proto.loss_weight) or [node.layer.default_loss_weight]
        for value, weight in zip(node.outputs, given, strict=False):
            if weight:
                weights[value] = float(weight)
    return weights


def _idle_losses(graph: Graph, needs: Mapping[int, Needs]) -> frozenset[str]:
    """Tops of losses that state no weight, and that a layer reads which has a gradient for them.

    In Caffe that gradient takes the place of the weight 1; only a weight that is stated makes
    the loss one of the blob's readers (insert_splits.cpp).
    """
    answered = {
        value
        for node in graph.nodes
        for value, wanted in zip(node.inputs, needs[id(node)].propagate, strict=True)
        if wanted and needs[id(node)].layer
    }
    unstated = (node.outputs for node in graph.nodes if not node.proto.loss_weight)
    return frozenset(top for tops in unstated for top in tops if top in answered)
