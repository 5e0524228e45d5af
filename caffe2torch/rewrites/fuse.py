"""The same function in fewer layers, for inference: affine layers folded, dropout removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import NetError
from caffe2torch.graph import FloatArray, Graph, Node, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Affine, find_layer, type_name
from caffe2torch.layers.convolution import Convolution
from caffe2torch.layers.dropout import Dropout
from caffe2torch.layers.inner_product import InnerProduct
from caffe2torch.pipeline import with_layers


def fuse(graph: Graph) -> Graph:
    """Fold BatchNorm, Scale, Bias and the like into the layer before them; drop Dropout.

    A layer that is y = a[c] x + b[c] by channel goes into the Convolution or InnerProduct
    whose output only it reads: weight' = a * weight, bias' = a * bias + b, computed in
    float64 and rounded once. Dropout, the identity here, goes into whatever layer it
    follows. The blobs between them are gone; all others keep their names and, but for
    rounding, their values. Before::

        layer { name: "c" type: "Convolution" bottom: "x" top: "c"
          convolution_param { num_output: 6 kernel_size: 3 bias_term: false } }
        layer { name: "bn" type: "BatchNorm" bottom: "c" top: "bn" }
        layer { name: "r" type: "ReLU" bottom: "bn" top: "r" }

    After::

        layer { name: "c" type: "Convolution" bottom: "x" top: "bn"
          convolution_param { num_output: 6 kernel_size: 3 bias_term: true } }
        layer { name: "r" type: "ReLU" bottom: "bn" top: "r" }

    Raises NetError for a net of phase TRAIN, whose BatchNorm takes the statistics of the
    batch.
    """
    if graph.phase != "TEST":
        raise NetError(f"a net of phase {graph.phase} cannot be fused; read it with phase TEST.")
    return with_layers(graph, [(step.proto, step.finished()) for step in _fused_steps(graph)])


def give_bias(proto: Message) -> None:
    """Say in the message of a Convolution or InnerProduct that it has a bias."""
    cls = find_layer(type_name(proto))
    if cls is not None and cls.parameters is not None and cls.parameters.is_own:
        cls.parameters.put(proto, "bias_term", True)
    elif proto.type == InnerProduct.type:
        proto.inner_product_param.bias_term = True
    else:
        proto.convolution_param.bias_term = True


@dataclass
class _Step:
    """A layer that stays, and the affine layers that have gone into it."""

    proto: Message
    arrays: Mapping[str, FloatArray]
    takes_affine: bool
    affine: Affine | None = None

    def absorb(self, proto: Message, affine: Affine | None) -> None:
        """Do what the next layer does, and write the blob that it writes."""
        self.proto.top[0] = proto.top[0]
        if affine is not None:
            self.affine = self.affine.then(affine) if self.affine else affine
            give_bias(self.proto)

    def finished(self) -> Mapping[str, FloatArray]:
        """The arrays with the affine layers in them."""
        if self.affine is None:
            return self.arrays
        scale, shift = self.affine
        weight = np.asarray(self.arrays["weight"], np.float64)
        bias = np.asarray(self.arrays.get("bias", 0), np.float64)
        by_output = scale.reshape(-1, *[1] * (weight.ndim - 1))
        return {"weight": _float32(weight * by_output), "bias": _float32(bias * scale + shift)}


def _fused_steps(graph: Graph) -> list[_Step]:
    """The layers that stay, in order."""
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    readers.update(graph.blobs[blob] for blob in graph.outputs)
    owners = Counter(key for node in graph.nodes for key in node.params.values())
    maker: dict[str, _Step] = {}
    steps = []
    for node in graph.nodes:
        arrays = graph.arrays(node)
        into = maker.get(node.inputs[0]) if len(node.inputs) == len(node.outputs) == 1 else None
        if into is None or readers[node.inputs[0]] > 1 or not _absorbed(node, arrays, into, graph):
            shared = any(owners[key] > 1 for key in node.params.values())
            is_linear = not shared and _is_linear(node, graph.shapes)
            into = _Step(deepcopy(node.proto), arrays, is_linear)
            steps.append(into)
        if len(node.outputs) == 1:
            maker[node.outputs[0]] = into
    return steps


def _absorbed(node: Node, arrays: Mapping[str, FloatArray], into: _Step, graph: Graph) -> bool:
    """Put ``node`` into the layer before it, if that can be."""
    proto, in_place = node.proto, into.proto.top[0] in into.proto.bottom
    if in_place and proto.top[0] != into.proto.top[0]:
        return False  # A new top would leave the name to the blob before the change.
    if isinstance(node.layer, Dropout) and node.layer.is_identity:
        into.absorb(proto, None)
        return True
    shape = graph.shapes[node.inputs[0]]
    if not into.takes_affine or graph.shapes[node.outputs[0]] != shape:
        return False
    affine = node.layer.affine(arrays, shape[1])
    if affine is None:
        return False
    into.absorb(proto, affine)
    return True


def _is_linear(node: Node, shapes: Mapping[str, Shape]) -> bool:
    """Whether the layer has one weight and one summand for each channel (axis 1) of its top."""
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        return False
    layer, bottom = node.layer, shapes[node.inputs[0]]
    if isinstance(layer, Convolution):
        return layer.resolved(bottom)[0] == 1
    if isinstance(layer, InnerProduct):
        return not layer.normalize and len(shapes[node.outputs[0]]) == 2
    return False


def _float32(values: npt.NDArray[np.float64]) -> FloatArray:
    return np.ascontiguousarray(values, np.float32)
