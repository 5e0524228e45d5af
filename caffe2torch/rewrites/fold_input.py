"""Fold the making of the input into the first convolution: the net then takes ordinary RGB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ArtefactError, Caffe2TorchError
from caffe2torch.graph import FloatArray, Graph, Input, Node, Preprocessing
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.layers.convolution import Convolution
from caffe2torch.passes.build import rebuild_graph
from caffe2torch.passes.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

RGB = "RGB"
PEAK = 255.0
"""The largest value of an 8-bit pixel, which is 1 in the new spaces."""

INPUTS: Mapping[str, Preprocessing] = {
    "rgb01": Preprocessing(scale=1 / PEAK, channel_order=RGB),
    "imagenet": Preprocessing(
        mean=(0.485 * PEAK, 0.456 * PEAK, 0.406 * PEAK),
        scale=1 / PEAK,
        std=(0.229, 0.224, 0.225),
        channel_order=RGB,
    ),
}
"""The inputs that a net can be made to take: RGB in [0, 1], and the same normalised by the
mean and standard deviation that torchvision's models use."""


def set_preprocessing(
    graph: Graph, mean: Sequence[float] | None = None, scale: float | None = None
) -> Graph:
    """Record the net's own preprocessing where the caller knows what the file does not say.

    ``mean`` is one number or one a channel, in the order of the input (Caffe: BGR), and
    takes the place of the recorded mean, a mean image among them. ``scale`` multiplies
    after it; without it the recorded scale stays, else it is 1.

    Raises ArtefactError for a wrong count, a scale of 0, and a scale without a known mean.
    """
    if mean is None and scale is None:
        return graph
    record = graph.preprocessing
    if record is None and mean is None:
        raise ArtefactError(
            "the scale alone does not say how the net's input is made, and its mean is not in "
            "the file. Give --mean B,G,R too (--mean 0 if nothing is subtracted)."
        )
    if scale is not None and not (np.isfinite(scale) and scale):
        raise ArtefactError(f"the scale {scale} cannot be: give the factor after the mean.")
    record = record or Preprocessing()
    if mean is not None:
        channels = {i.shape[1] for i in graph.inputs if len(i.shape) == 4}
        if len(mean) != 1 and len(mean) not in channels:
            raise ArtefactError(
                f"the mean has {len(mean)} values; give one, or one for each channel of the "
                f"input ({', '.join(f'{i.name!r} {i.shape}' for i in graph.inputs)})."
            )
        record = replace(record, mean=tuple(float(m) for m in mean), mean_file=None)
    if scale is not None:
        record = replace(record, scale=float(scale))
    return replace(graph, preprocessing=record)


def fold_input(graph: Graph, to: str) -> Graph:
    """A net that computes from the input ``to`` (see ``INPUTS``) what ``graph`` does from its own.

    With the net's input c = (p - mean) * scale of a pixel p in its channel order, and the new
    input u, c_k = a_k u_j + b_k for the channel j of the same colour. So the first
    convolution's weights are w[:, j] = a_k w[:, k] and its bias gains the sum of b_k w[:, k].
    Computed in float64 and rounded once. A convolution without bias gains one if any b_k is
    not 0. The preprocessing that the result records is the new input's.

    Raises ArtefactError where that is not exact or not known: no recorded preprocessing or
    only a mean image; not exactly one input of three channels; an input that something
    other than one ungrouped Convolution reads; padding, whose zeros are no longer the value
    that the net was given, together with a mean.
    """
    if to not in INPUTS:
        raise ArtefactError(f"there is no input {to!r}; choose {' or '.join(INPUTS)}.")
    target = INPUTS[to]
    own = _own(graph)
    blob = _image_input(graph)
    index, node, layer = _first_convolution(graph, blob)
    order, factor, shift = _affine(own, target)
    if shift.any():
        _refuse_padding(graph, node, layer)
    weight = np.asarray(graph.params[node.params["weight"]], np.float64)
    folded = {node.params["weight"]: _float32((weight * factor[:, None, None])[:, order], node)}
    if shift.any():
        added = weight.sum(axis=(2, 3)) @ shift
        if layer.bias_term:
            added = added + graph.params[node.params["bias"]]
        else:
            graph = _with_bias(graph, index, layer)
        folded[graph.nodes[index].params["bias"]] = _float32(added, node)
    params = {key: folded.get(key, array) for key, array in graph.params.items()}
    record = replace(target, crop_size=own.crop_size, mirror=own.mirror)
    return replace(graph, params=params, preprocessing=record)


def _affine(
    own: Preprocessing, target: Preprocessing
) -> tuple[list[int], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The net's channel of each new channel, and a and b by channel of the net."""
    order = [own.channel_order.index(colour) for colour in target.channel_order]
    place = [target.channel_order.index(colour) for colour in own.channel_order]
    mean, step = _statistics(own)
    new_mean, new_step = (values[place] for values in _statistics(target))
    return order, step / new_step, (new_mean - mean) * step


def _statistics(
    record: Preprocessing,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The three means, and by what the differences from them are multiplied."""
    mean = np.broadcast_to(np.array(record.mean or (0.0,)), 3)
    std = np.broadcast_to(np.array(record.std or (1.0,)), 3)
    return mean, record.scale / std


def _own(graph: Graph) -> Preprocessing:
    record = graph.preprocessing
    if record is None:
        raise _refusal(
            "the file does not say how the net's input is made from an image. Give the mean that "
            "is subtracted (--mean B,G,R; --mean 0 if none) and the factor (--scale S; 1 if not "
            "given)"
        )
    if record.mean_file:
        raise _refusal(
            f"the net was trained with the mean image {record.mean_file!r}, whose value differs "
            "from pixel to pixel. Give its mean for each channel if that will do (--mean B,G,R)"
        )
    if len(record.mean) not in (0, 1, 3):
        raise _refusal(f"the recorded mean has {len(record.mean)} values. Give --mean B,G,R")
    return record


def _image_input(graph: Graph) -> Input:
    """The only input, which must be an image of three channels."""
    if len(graph.inputs) != 1:
        raise _refusal(
            f"the net has {len(graph.inputs)} inputs "
            f"({', '.join(repr(i.name) for i in graph.inputs)}); only one image can be folded"
        )
    (only,) = graph.inputs
    if len(only.shape) != 4 or only.shape[1] != 3:
        raise _refusal(
            f"the input {only.name!r} has the shape {only.shape}, which is not a batch of images "
            "of three channels"
        )
    return only


def _first_convolution(graph: Graph, blob: Input) -> tuple[int, Node, Convolution]:
    """The one node that reads the input, and its place."""
    readers = [(i, node) for i, node in enumerate(graph.nodes) if blob.name in node.inputs]
    if len(readers) != 1 or blob.name in (graph.blobs[name] for name in graph.outputs):
        names = ", ".join(repr(node.layer.name) for _, node in readers) or "no layer"
        raise _refusal(
            f"the input {blob.name!r} is read by {names}"
            + (" and is an output too" if len(readers) == 1 else "")
            + "; it must be read by one Convolution alone"
        )
    ((index, node),) = readers
    layer = node.layer
    if not isinstance(layer, Convolution) or len(node.inputs) != 1:
        raise _refusal("the input goes through it; it must go into one Convolution", node)
    if layer.group != 1:
        raise _refusal(f"its {layer.group} groups keep the colours apart", node, "group")
    if layer.resolved(blob.shape)[0] != 1:
        raise _refusal("it does not sum over the channels", node, "axis")
    keys = set(node.params.values())
    shared = next((n for n in graph.nodes if n is not node and keys & set(n.params.values())), None)
    if shared is not None:
        raise _refusal(f"it shares its weights with the layer {shared.layer.name!r}", node)
    return index, node, layer


def _refuse_padding(graph: Graph, node: Node, layer: Convolution) -> None:
    """Zeros beyond the image stand for another colour in the new space if a mean moves."""
    shape = graph.shapes[node.inputs[0]]
    window = layer.resolved(shape)[1]
    if any(window.pad) or any(window.excess(shape[2:])):
        raise _refusal(
            f"its padding {window.pad} puts zeros around the image, which mean the subtracted "
            "mean to the net and would mean another colour after folding",
            node,
            "pad",
        )


def _with_bias(graph: Graph, index: int, layer: Convolution) -> Graph:
    """The same net with a bias of zeros in the convolution ``index``, in its definition too."""
    net = parse_prototxt(graph.definition, "the net's definition")
    # The definition lists the inputs before the nodes.
    net.layer[len(net.layer) - len(graph.nodes) + index].convolution_param.bias_term = True
    arrays = [{n: graph.params[key] for n, key in node.params.items()} for node in graph.nodes]
    arrays[index]["bias"] = np.zeros(layer.num_output, np.float32)
    restored = rebuild_graph(resolve(net), arrays, name=graph.name, phase=graph.phase)
    return replace(
        graph, nodes=restored.nodes, params=restored.params, definition=restored.definition
    )


def _float32(values: npt.NDArray[np.float64], node: Node) -> FloatArray:
    rounded = values.astype(np.float32, order="C")
    if not np.isfinite(rounded).all():
        raise _refusal("the folded weights are beyond what float32 holds", node)
    return rounded


def _refusal(cause: str, node: Node | None = None, field: str | None = None) -> Caffe2TorchError:
    return ArtefactError(
        f"the input cannot be folded exactly: {cause}. Convert without --input."
        if node
        else f"the input cannot be folded: {cause}.",
        layer=node.layer.name if node else None,
        type=node.layer.type if node else None,
        field=field,
    )
