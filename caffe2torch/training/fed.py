"""A net with its data on a device: one pass after the other, each on the next batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from caffe2torch.data import Prefetched
from caffe2torch.graph import FloatArray, Graph, Node, Shape
from caffe2torch.io.schema import Message
from caffe2torch.io.write_caffemodel import LayerBlobs, node_blobs
from caffe2torch.layers import Layer
from caffe2torch.lower.eager import check_indices
from caffe2torch.lower.overwritten import in_full
from caffe2torch.lower.to_torch import array_of, arrays_of
from caffe2torch.training.backward import statistics_of
from caffe2torch.training.engine import Output, Pass
from caffe2torch.training.learned import LearnedBlob
from caffe2torch.training.net import (
    TrainingNet,
    saved_layer,
    split_layers,
)
from caffe2torch.training.precision import PLAIN, Arithmetic
from caffe2torch.training.side_stream import SideStream
from caffe2torch.training.update import Slot


class FedNet:
    """A TrainingNet on a device, which reads its data as it goes.

    ``position`` is the number of passes, and so the next batch. ``workers`` processes
    prepare the batches of each data layer; 0 prepares them where they are used, None leaves the
    number to the layer's source. Layers compute as ``arithmetic`` says (plainly, in float32);
    losses and outputs are float32.
    """

    def __init__(
        self,
        net: TrainingNet,
        device: torch.device,
        workers: int | None = None,
        arithmetic: Arithmetic = PLAIN,
    ) -> None:
        # The arrays are the module's now.
        self.net = replace(net, graph=replace(net.graph, params={}))
        self.name = net.graph.name
        self.device, self.workers = device, workers
        self.module = net.module.to(device)
        self._around = arithmetic.of(net.graph, self.module, device)
        _tie(net)
        self._indices = _indices(net.graph)
        self.slots: Sequence[Slot] = [_slot(net, blob) for blob in net.learned]
        weights = {value: float(weight) for value, weight in net.loss_weights.items()}
        self._outputs = [
            (blob, net.graph.blobs[blob], weights.get(net.graph.blobs[blob], 0.0))
            for blob in net.outputs
        ]
        self._kept = {*weights, *(value for _, value, _ in self._outputs)}
        self._batches: dict[str, Prefetched] = {}
        self._finish = {name: source.finisher(device) for name, source in net.sources.items()}
        self._beside = SideStream(device)
        self.position = 0

    def seek(self, position: int) -> None:
        """Go on with the batch of pass ``position``, counted from the start of a run."""
        self.close()
        self.position = position

    def close(self) -> None:
        """End the processes that read ahead."""
        for batches in self._batches.values():
            batches.close()
        self._batches = {}

    def inputs(self) -> dict[str, Tensor]:
        """The next batch of each data layer, on the device, and zeros for other inputs."""
        if not self._batches:
            self._batches = {
                name: Prefetched(source, self.position, workers=self.workers, device=self.device)
                for name, source in self.net.sources.items()
            }
        self.position += 1
        return self._beside(self._next_inputs, dict.values)

    def _next_inputs(self) -> dict[str, Tensor]:
        raw = {name: next(batches) for name, batches in self._batches.items()}
        tops = self.net.inputs(raw)
        fed = self.net.inputs({name: self._finish[name](batch) for name, batch in raw.items()})
        # Here, as a GPU gives no reason for an index out of range, and -1 is torch's last one.
        for layer, name, bottoms in self._indices:
            if name in fed:
                top = tops[name]  # Numbers are on the CPU, where nothing waits for them.
                values = top if isinstance(top, Tensor) else fed[name]
                check_indices(layer, values, bottoms, name)
        for declared in self.net.graph.inputs:
            # As Caffe's Input layer, whose blobs nobody has filled.
            if declared.name not in fed:
                fed[declared.name] = torch.zeros(declared.shape, device=self.device)
        return fed

    def clear_gradients(self) -> None:
        """Forget all gradients."""
        for parameter in self.module.parameters():
            parameter.grad = None

    def forward_backward(self) -> Pass:
        """One pass on the next batch, whose gradients are added to those that there are."""
        values = self._values()
        for blob in self.net.learned:
            blob.begin()
        objective = self.net.objective(values)
        if objective.requires_grad:
            objective.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        for blob in self.net.learned:
            blob.gather()
        return self._pass(values, self.net.loss(values))

    @torch.no_grad()
    def forward(self) -> Pass:
        """One pass on the next batch, without gradients."""
        values = self._values()
        return self._pass(values, self.net.loss(values))

    def _values(self) -> dict[str, Tensor]:
        """The losses and outputs of a pass on the next batch, by the values' names."""
        values = self.module.values(self.inputs(), self._kept, self._around)
        return {name: in_full(values[name]) for name in self._kept}

    def share_from(self, other: FedNet) -> None:
        """Compute with the learned arrays of another net's layers of the same names.

        Caffe: Net::ShareTrainedLayersWith. Raises NetError where their shapes differ.
        """
        graph, theirs = self.net.graph, other.net.graph
        sources = {node.layer.name: node for node in reversed(theirs.nodes)}
        for node in graph.nodes:
            source = sources.get(node.layer.name)
            if source is None or not node.params:
                continue
            own = self.module.get_submodule(node.key)
            given = other.module.get_submodule(source.key)
            for name in node.params:
                tensor, mine = getattr(given, name, None), getattr(own, name)
                if tensor is None or tensor.shape != mine.shape:
                    shape = None if tensor is None else tuple(tensor.shape)
                    raise node.layer.net_error(
                        f"its {name} has the shape {tuple(mine.shape)} in the test net and "
                        f"{shape} in the training net, which it shares"
                    )
                setattr(own, name, tensor)

    def layers(self) -> tuple[list[LayerBlobs], list[list[int]]]:
        """What a snapshot holds: the layers as Caffe's Net::ToProto has them, Splits included."""
        self._settle()
        mine = {(id(blob.node), blob.index) for blob in self.net.learned}
        layers: list[LayerBlobs] = []
        owned: list[list[int]] = []
        for proto, node in split_layers(self.net.net, self.net.graph):
            if node is None:
                layers.append(LayerBlobs(saved_layer(proto, 0)))
                owned.append([])
                continue
            arrays = partial(arrays_of, self.module, node)
            graph = self.net.graph
            blobs = node_blobs(node, _snapshot_proto(proto, node, graph), graph, arrays)
            layers.append(blobs)
            owned.append([i for i in range(len(blobs.shapes)) if (id(node), i) in mine])
        return layers, owned

    def _settle(self) -> None:
        """Round statistics to what Caffe's blobs can hold, so that a restored run goes on alike."""
        for node in self.net.graph.nodes:
            own = self.module.get_submodule(node.key)
            if not any(name in own._buffers for name in node.params):
                continue
            bottoms = [self.net.graph.shapes[name] for name in node.inputs]
            arrays = arrays_of(self.module, node)
            blobs = node.layer.export_blobs(arrays, bottoms)
            for name, array in node.layer.import_blobs(blobs, bottoms).items():
                if name in own._buffers:
                    getattr(own, name).copy_(torch.from_numpy(np.array(array)))

    def _pass(self, values: Mapping[str, Tensor], loss: Tensor) -> Pass:
        return Pass(
            loss.detach(),
            tuple(
                Output(blob, values[value].detach().flatten(), weight)
                for blob, value, weight in self._outputs
            ),
        )

    @torch.no_grad()
    def why_not_finite(self) -> str:
        """Where the first value that is not finite comes from, in a pass on the last batch."""
        self.seek(self.position - 1)
        inputs = self.inputs()
        self.close()
        for name, value in inputs.items():
            if not bool(value.isfinite().all()):
                return f"the data blob {name!r} holds a value that is not finite"
        for node in self.net.graph.nodes:
            for name in node.params:
                if not bool(getattr(self.module.get_submodule(node.key), name).isfinite().all()):
                    return (
                        f"the {name} of layer {node.layer.name!r} holds a value that is not finite"
                    )
        values = self.module.values(inputs, None, self._around)
        for node in self.net.graph.nodes:
            for top in node.outputs:
                if not bool(values[top].isfinite().all()):
                    return (
                        f"layer {node.layer.name!r} ({node.layer.type}) is the first whose output "
                        "is not finite"
                    )
        return "no layer's output alone is not finite"


def _indices(graph: Graph) -> list[tuple[Layer, str, Sequence[Shape]]]:
    """The layers that read values as indices, those values, and the shapes of their bottoms."""
    return [
        (node.layer, node.inputs[position], [graph.shapes[name] for name in node.inputs])
        for node in graph.nodes
        for position in node.layer.index_bottoms
        if position < len(node.inputs)
    ]


def _tie(net: TrainingNet) -> None:
    """Make shared arrays one memory again, which a move to another device has parted."""
    buffers: dict[str, Tensor] = {}
    for node in net.graph.nodes:
        own = net.module.get_submodule(node.key)
        for name, key in node.params.items():
            if name in own._buffers:
                setattr(own, name, buffers.setdefault(key, getattr(own, name)))
    for blob in net.learned:
        blob.tie()


def _slot(net: TrainingNet, blob: LearnedBlob) -> Slot:
    node = blob.node
    bottoms = [net.graph.shapes[name] for name in node.inputs]
    multipliers = blob.shape, blob.lr_mult, blob.decay_mult
    if not blob.tensors:
        device = next((p.device for p in net.module.buffers()), torch.device("cpu"))
        held = nn.Parameter(torch.zeros(blob.shape, device=device), requires_grad=False)

        def refresh() -> None:
            blobs = node.layer.export_blobs(arrays_of(net.module, node), bottoms)
            held.data.copy_(torch.from_numpy(np.array(blobs[blob.index])))

        return Slot(*multipliers, held, refresh=refresh)
    names = [spec.name for spec in node.layer.blob_specs(bottoms)]
    name = names[blob.index]

    def to_caffe(tensor: Tensor) -> FloatArray:
        arrays = {**arrays_of(net.module, node), name: array_of(tensor)}
        return node.layer.export_blobs(arrays, bottoms)[blob.index]

    def from_caffe(array: FloatArray) -> FloatArray:
        blobs = list(node.layer.export_blobs(arrays_of(net.module, node), bottoms))
        blobs[blob.index] = array
        return node.layer.import_blobs(blobs, bottoms)[name]

    tensor, *others = blob.tensors
    return Slot(*multipliers, tensor, to_caffe, from_caffe, gathered=bool(others))


def _snapshot_proto(proto: Message, node: Node, graph: Graph) -> Message:
    """The layer's own message with the bottoms, tops and weights of Splits, as Caffe leaves it."""
    made = deepcopy(node.proto)
    for field in ("bottom", "top", "loss_weight"):
        made.ClearField(field)
        getattr(made, field).extend(getattr(proto, field))
    bottoms = [graph.shapes[value] for value in node.inputs]
    return saved_layer(made, node.layer.default_loss_weight, statistics_of(node, bottoms))
