"""The learned blobs of a net, each once, and the parameters of the module that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from torch import nn

from caffe2torch.graph import Graph, Node, Shape
from caffe2torch.io.schema import enum_name
from caffe2torch.layers._recurrent import Recurrent
from caffe2torch.lower.to_torch import CaffeModule
from caffe2torch.training.backward import Needs, statistics_of


@dataclass(frozen=True)
class LearnedBlob:
    """A learned blob of Caffe's, in the layer that owns it.

    ``tensors`` are the parameters of the module that hold its values, in torch's form: one,
    or several where layers share it in other forms (they are views of the same memory);
    none for statistics, which no gradient reaches (BatchNorm). ``turned`` says of each whether
    it shows the first one's values in columns. ``lr_mult`` and ``decay_mult`` multiply the solver's
    learning rate and weight decay. ``adds`` says whether a pass adds its gradient to that of the
    passes before it, as most do, or writes it over that.
    """

    node: Node
    index: int
    shape: Shape
    lr_mult: float
    decay_mult: float
    tensors: tuple[nn.Parameter, ...]
    turned: tuple[bool, ...] = (False,)
    adds: bool = True

    @property
    def learns(self) -> bool:
        """Whether a gradient is asked for."""
        return any(tensor.requires_grad for tensor in self.tensors)

    def tie(self) -> None:
        """Make all tensors views of the first one's memory."""
        for tensor, is_turned in zip(self.tensors[1:], self.turned[1:], strict=True):
            first = self.tensors[0].data
            shape = tensor.shape
            tensor.data = first.view(shape[::-1]).t() if is_turned else first.view(shape)

    def begin(self) -> None:
        """Get ready for a pass: forget the gradient that it would be written over."""
        for tensor in self.tensors if not self.adds else ():
            if tensor.grad is not None:
                tensor.grad.zero_()

    def gather(self) -> None:
        """Add the gradients of all tensors up in the first, and forget those of the others."""
        for tensor, is_turned in zip(self.tensors[1:], self.turned[1:], strict=True):
            if tensor.grad is not None:
                first = self.tensors[0]
                grad = tensor.grad.t() if is_turned else tensor.grad
                grad = grad.reshape(first.shape)
                first.grad = grad if first.grad is None else first.grad.add_(grad)
                tensor.grad = None


def learned_blobs(
    graph: Graph, module: CaffeModule, needs: Mapping[int, Needs]
) -> tuple[LearnedBlob, ...]:
    """The learned blobs in Caffe's order; those of one ``param { name }`` are one.

    A multiplier that the owner does not state is that of the first other layer that does. A
    layer that shares a blob and does not learn has a tensor of its own on the same memory, so
    that no gradient comes from there. ``needs`` are those of each node, by its identity.
    """
    found: dict[object, list[LearnedBlob]] = {}
    for position, node in enumerate(graph.nodes):
        own = module.get_submodule(node.key)
        bottoms = [graph.shapes[name] for name in node.inputs]
        statistics = statistics_of(node, bottoms)
        for index, spec in enumerate(node.layer.blob_specs(bottoms)):
            param = node.proto.param[index : index + 1]
            name = param[0].name if param else ""
            if index not in statistics:
                learns = needs[id(node)].learns[index]
                if name and not learns:
                    setattr(own, spec.name, nn.Parameter(getattr(own, spec.name).data))
                getattr(own, spec.name).requires_grad_(learns)
            blob = LearnedBlob(
                node,
                index,
                spec.shape,
                lr_mult=param[0].lr_mult if param else 1.0,
                decay_mult=param[0].decay_mult if param else 1.0,
                tensors=() if index in statistics else (getattr(own, spec.name),),
                adds=spec.name not in node.layer.overwritten_gradients(bottoms),
            )
            found.setdefault(name or (position, index), []).append(blob)
    return tuple(_as_one(graph, blobs) for blobs in found.values())


def _as_one(graph: Graph, blobs: Sequence[LearnedBlob]) -> LearnedBlob:
    """The blob that several layers share, from each one's own view of it."""
    owner = blobs[0]
    for blob in blobs[1:]:
        _check_steps(graph, blob, owner)
    _check_order(blobs)
    views = {id(tensor): (tensor, blob) for blob in reversed(blobs) for tensor in blob.tensors}
    turned = dict.fromkeys(views, False)
    if len(views) > 1:
        columns = {key: _in_columns(graph, blob) for key, (_, blob) in views.items()}
        of_owner = columns[id(owner.tensors[0])]
        turned = {key: flag != of_owner for key, flag in columns.items()}
        for _, blob in views.values():
            if of_owner and blob.shape != owner.shape:
                raise blob.node.layer.unsupported(
                    f"it shares blob {blob.index} of the shape {blob.shape} with layer "
                    f"{owner.node.layer.name!r}, which transposes it, in the shape {owner.shape}; "
                    "give both the same shape",
                    "param.share_mode",
                )
    stated: dict[str, float] = {}
    for field in ("lr_mult", "decay_mult"):
        specs = [b.node.proto.param[b.index : b.index + 1] for b in blobs]
        given = [getattr(s[0], field) for s in specs if s and s[0].HasField(field)]
        stated[field] = float(given[0]) if given else 1.0
    if not owner.tensors:
        stated["lr_mult"] = 0.0  # Statistics: Caffe sets it so (batch_norm_layer.cpp).

    def place(tensor: nn.Parameter) -> tuple[bool, bool, bool]:
        # The first has the owner's form, and gradients of its own, if there is such a one.
        differs = turned[id(tensor)] or tensor.shape != owner.tensors[0].shape
        is_owners = tensor is owner.tensors[0]
        return differs, not tensor.requires_grad, not is_owners

    tensors = sorted((tensor for tensor, _ in views.values()), key=place)
    one = LearnedBlob(
        owner.node,
        owner.index,
        owner.shape,
        lr_mult=stated["lr_mult"],
        decay_mult=stated["decay_mult"],
        tensors=tuple(tensors),
        turned=tuple(turned[id(tensor)] for tensor in tensors),
        adds=all(blob.adds for blob in blobs if blob.learns),
    )
    if tensors:
        tensors[0].data = owner.tensors[0].data
    one.tie()
    return one


def _check_steps(graph: Graph, blob: LearnedBlob, owner: LearnedBlob) -> None:
    """Raise UnsupportedLayerError for a shared blob that Caffe shares in the first step alone.

    Its TRAIN phase leaves the other steps of the unrolled net on the memory from before the
    sharing; in phase TEST it renews them before each pass (recurrent_layer.cpp, Forward_cpu).
    """
    layer, bottoms = blob.node.layer, [graph.shapes[name] for name in blob.node.inputs]
    if (
        isinstance(layer, Recurrent)
        and enum_name(blob.node.proto, "phase") == "TRAIN"
        and bottoms[0][0] > 1
        and layer.blob_specs(bottoms)[blob.index].name in layer.repeated_blobs
    ):
        raise layer.unsupported(
            f"it shares its blob {blob.index} with layer {owner.node.layer.name!r}, and in phase "
            "TRAIN Caffe computes with values of its own, which nothing trains, from the second "
            "step on; give the blob no name, or put both sequences through one layer, one after "
            "the other on axis 1",
            "param.name",
        )


def _check_order(blobs: Sequence[LearnedBlob]) -> None:
    """Raise UnsupportedLayerError for a shared blob of whose gradients one overwrites the others'.

    What is left depends on the layers' order then.
    """
    learning = [blob for blob in blobs if blob.learns]
    for blob in learning if len(learning) > 1 else ():
        if not blob.adds and enum_name(blob.node.proto, "phase") == "TRAIN":
            raise blob.node.layer.unsupported(
                f"it shares its blob {blob.index}, and Caffe writes its gradient of it over that "
                "of the other layers, of which then some do not count; give the blob no name, or "
                "a Scale a batch of more than one item",
                "param.name",
            )


def _in_columns(graph: Graph, blob: LearnedBlob) -> bool:
    """Whether torch's array is the transpose of the blob (``transpose`` of InnerProduct).

    Raises UnsupportedLayerError if it has the blob's values in yet another order.
    """
    layer = blob.node.layer
    bottoms = [graph.shapes[name] for name in blob.node.inputs]
    specs = layer.blob_specs(bottoms)
    places = np.arange(prod(blob.shape))
    found = np.zeros(len(places), np.int64)
    # In two parts, which float32 holds exactly.
    for factor, part in ((1, places % 4096), (4096, places // 4096)):
        blobs = [np.zeros(spec.shape, np.float32) for spec in specs]
        blobs[blob.index] = part.astype(np.float32).reshape(blob.shape)
        array = layer.import_blobs(blobs, bottoms)[specs[blob.index].name]
        found = found.reshape(array.shape) + factor * array.astype(np.int64)
    if (found.ravel() == places).all():
        return False
    if found.ndim == 2 and (found.T.ravel() == places).all():
        return True
    raise layer.unsupported(
        f"blob {blob.index} is shared, and cannot be where its values are kept in another order; "
        "give the layer a blob of its own",
        "param.name",
    )
