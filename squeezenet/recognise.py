"""Tell by structure whether a converted Caffe net is a SqueezeNet, and which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from caffe2torch.graph import Graph, Node, Shape
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import Message, message_class
from caffe2torch.layers._base import Layer
from caffe2torch.layers.concat import Concat
from caffe2torch.layers.convolution import Convolution
from caffe2torch.layers.dropout import Dropout
from caffe2torch.layers.eltwise import Eltwise
from caffe2torch.layers.softmax import Softmax
from caffe2torch.pipeline import build_graph
from caffe2torch.preprocessing import Preprocessing
from squeezenet.deploy import ARCHITECTURES, BYPASSES, deploy_prototxt
from squeezenet.preprocess import MEAN


@dataclass(frozen=True)
class SqueezeNetSpec:
    """Which SqueezeNet a graph is. ``params`` maps the graph's keys to state_dict keys.

    ``dropout`` is 0 for a net without a Dropout layer. ``softmax`` says that the graph goes
    on to probabilities; the module returns what comes before.
    """

    version: str
    bypass: str | None
    num_classes: int
    dropout: float
    softmax: bool
    params: Mapping[str, str]


def recognise(graph: Graph) -> SqueezeNetSpec | None:
    """The SqueezeNet that computes exactly what ``graph`` does; None if there is none.

    The graph is compared with that of each deploy net: layer types, their parameters and
    their connections decide, names and the order of layers do not. Every layer of the graph
    must have its place, and the logits or their softmax be the only output.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    image = graph.inputs[0].shape
    result = graph.shapes[graph.blobs[graph.outputs[0]]]
    if len(image) != 4 or image[1] != 3 or len(result) != 4:
        return None
    for bypass, version in product(BYPASSES, ARCHITECTURES):
        reference = _deploy_graph(deploy_prototxt(version, bypass, result[1]))
        places = _places(graph, reference)
        if places is None:
            continue
        params = {
            node.params[own]: key for wanted, node in places for own, key in wanted.params.items()
        }
        if len(params) != len(reference.params):
            return None  # Layers share weights.
        layers = [node.layer for _, node in places]
        dropouts = [layer.dropout_ratio for layer in layers if isinstance(layer, Dropout)]
        softmax = any(isinstance(layer, Softmax) for layer in layers)
        return SqueezeNetSpec(version, bypass, result[1], sum(dropouts), softmax, params)
    return None


def published_preprocessing(graph: Graph) -> Preprocessing | None:
    """That the mean of the published weights is subtracted, where ``graph`` is a SqueezeNet."""
    return Preprocessing(mean=MEAN) if recognise(graph) else None


@lru_cache(maxsize=8)
def _deploy_graph(prototxt: str) -> Graph:
    """The graph of a deploy net, whose keys are those of the model's state_dict."""
    return build_graph(parse_prototxt(prototxt))


def _places(graph: Graph, reference: Graph) -> list[tuple[Node, Node]] | None:
    """The node of ``graph`` in the place of each of ``reference``; None if the nets differ.

    Follows ``reference`` from its input. Its Dropout and its Softmax may be absent.
    """
    values = {reference.inputs[0].name: graph.inputs[0].name}
    left = {id(node): node for node in graph.nodes}
    places = []
    for wanted in reference.nodes:
        inputs = tuple(values[value] for value in wanted.inputs)
        layer = _plain(wanted.layer, reference.shapes[wanted.inputs[0]])
        for node in left.values():
            if _reads(node, inputs) and _plain(node.layer, graph.shapes[inputs[0]]) == layer:
                values[wanted.outputs[0]] = node.outputs[0]
                places.append((wanted, left.pop(id(node))))
                break
        else:
            if not isinstance(wanted.layer, (Dropout, Softmax)):
                return None
            values[wanted.outputs[0]] = inputs[0]
    complete = not left and graph.blobs[graph.outputs[0]] == values[wanted.outputs[0]]
    return places if complete else None


def _reads(node: Node, inputs: tuple[str, ...]) -> bool:
    """Whether the node reads ``inputs``; a sum may read them in any order."""
    if isinstance(node.layer, Eltwise):
        return sorted(node.inputs) == sorted(inputs)
    return node.inputs == inputs


def _plain(layer: Layer, bottom: Shape) -> Layer:
    """The layer with one form for all that computes the same on a bottom of this shape."""
    layer = replace(layer, name="")
    if type(layer) is Convolution:
        axis, window = layer.resolved(bottom)
        return replace(
            layer, axis=axis, window=window,
            weight_filler=_NO_FILLER, bias_filler=_NO_FILLER, weight_filler_given=True,
        )  # fmt: skip
    if type(layer) is Concat:
        return replace(layer, axis=layer.axis % len(bottom), field="")
    if type(layer) is Softmax:
        return replace(layer, axis=layer.axis % len(bottom))
    if type(layer) is Dropout:
        return replace(layer, dropout_ratio=0.0, phase="")
    return layer


_NO_FILLER: Message = message_class("FillerParameter")()
