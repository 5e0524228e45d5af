"""Put the making of the input into the net: it then takes ordinary RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import FloatArray, Graph, InputBlob, Node
from caffe2torch.io.schema import message_class
from caffe2torch.layers.convolution import Convolution
from caffe2torch.passes.naming import unused
from caffe2torch.pipeline import with_layers
from caffe2torch.preprocessing import Preprocessing
from caffe2torch.rewrites.fuse import give_bias

Doubles = npt.NDArray[np.float64]

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

    Where the first layer cannot take that (it is not one ungrouped Convolution, it shares its
    weights, or a mean is subtracted and it is padded: its zeros would mean another colour), a
    1 x 1 convolution before it makes c of u. Before::

        layer { name: "c" type: "Convolution" bottom: "data" top: "c"
          convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }

    After, with three channels of u in ``data``::

        layer { name: "data_from_rgb" type: "Convolution" bottom: "data" top: "data_from_rgb"
          convolution_param { num_output: 3 kernel_size: 1 } }
        layer { name: "c" type: "Convolution" bottom: "data_from_rgb" top: "c"
          convolution_param { num_output: 6 kernel_size: 3 pad: 1 } }

    Raises ArtefactError where the net's own input is not known: no recorded preprocessing or
    only a mean image; not exactly one input that is an image of three channels, or one that
    is an output too.
    """
    if to not in INPUTS:
        raise ArtefactError(f"there is no input {to!r}; choose {' or '.join(INPUTS)}.")
    target = INPUTS[to]
    own = _own(graph)
    blob = _image_input(graph)
    order, factor, shift = _affine(own, target)
    index = _foldable(graph, blob, moves_zero=bool(shift.any()))
    if index is None:
        graph, index = _with_identity(graph, blob), 0
    node = graph.nodes[index]
    weight = np.asarray(graph.params[node.params["weight"]], np.float64)
    folded = {node.params["weight"]: _float32((weight * factor[:, None, None])[:, order], node)}
    if shift.any():
        added = weight.sum(axis=(2, 3)) @ shift
        if "bias" in node.params:
            added = added + graph.params[node.params["bias"]]
        else:
            graph = _with_bias(graph, index)
        folded[graph.nodes[index].params["bias"]] = _float32(added, node)
    params = {key: folded.get(key, array) for key, array in graph.params.items()}
    record = replace(
        own,
        mean=target.mean,
        scale=target.scale,
        std=target.std,
        channel_order=target.channel_order,
    )
    return replace(graph, params=params, preprocessing=record)


def _affine(own: Preprocessing, target: Preprocessing) -> tuple[list[int], Doubles, Doubles]:
    """The net's channel of each new channel, and a and b by channel of the net."""
    order = [own.channel_order.index(colour) for colour in target.channel_order]
    place = [target.channel_order.index(colour) for colour in own.channel_order]
    mean, step = _statistics(own)
    new_mean, new_step = (values[place] for values in _statistics(target))
    return order, step / new_step, (new_mean - mean) * step


def _statistics(record: Preprocessing) -> tuple[Doubles, Doubles]:
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


def _image_input(graph: Graph) -> InputBlob:
    """The only input that is an image of three channels."""
    images = [i for i in graph.inputs if len(i.shape) == 4 and i.shape[1] == 3]
    if len(images) != 1:
        inputs = ", ".join(f"{i.name!r} {i.shape}" for i in graph.inputs)
        raise _refusal(
            f"the net's inputs are {inputs or 'none'}; exactly one must be a batch of images of "
            "three channels"
        )
    (image,) = images
    if image.name in graph.outputs:
        raise _refusal(f"the input {image.name!r} is an output too, which would be another")
    return image


def _foldable(graph: Graph, blob: InputBlob, *, moves_zero: bool) -> int | None:
    """The place of the convolution that can take the new input itself, if there is one.

    ``moves_zero``: the zeros of a padding would stand for another colour.
    """
    readers = [i for i, node in enumerate(graph.nodes) if blob.name in node.inputs]
    node = graph.nodes[readers[0]] if readers else None
    if len(readers) != 1 or node is None or not isinstance(node.layer, Convolution):
        return None
    layer, keys = node.layer, set(node.params.values())
    is_shared = any(n is not node and keys & set(n.params.values()) for n in graph.nodes)
    if len(node.inputs) != 1 or is_shared or layer.group != 1:
        return None
    axis, window = layer.resolved(blob.shape)
    if axis != 1 or (moves_zero and (any(window.pad) or any(window.excess(blob.shape[2:])))):
        return None
    return readers[0]


def _with_identity(graph: Graph, blob: InputBlob) -> Graph:
    """The same net with a 1 x 1 convolution before it that passes the input on."""
    layers = [(deepcopy(node.proto), graph.arrays(node)) for node in graph.nodes]
    taken = {proto.name for proto in graph.net.layer} | set(graph.blobs)
    name = unused(f"{blob.name}_from_rgb", "_", taken, {})
    for proto, _ in layers:
        for blobs in (proto.bottom, proto.top):
            blobs[:] = [name if b == blob.name else b for b in blobs]
    identity = message_class("LayerParameter")(
        name=name,
        type=Convolution.type,
        bottom=[blob.name],
        top=[name],
        convolution_param={"num_output": 3, "kernel_size": [1], "bias_term": False},
    )
    weight = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    return with_layers(graph, [(identity, {"weight": weight}), *layers])


def _with_bias(graph: Graph, index: int) -> Graph:
    """The same net with a bias of zeros in the convolution ``index``, in its message too."""
    layers = [(deepcopy(node.proto), graph.arrays(node)) for node in graph.nodes]
    proto, arrays = layers[index]
    give_bias(proto)
    arrays["bias"] = np.zeros(len(arrays["weight"]), np.float32)
    return with_layers(graph, layers)


def _float32(values: Doubles, node: Node) -> FloatArray:
    rounded = values.astype(np.float32, order="C")
    if not np.isfinite(rounded).all():
        raise _refusal(
            f"the folded weights of the layer {node.layer.name!r} are beyond what float32 holds"
        )
    return rounded


def _refusal(cause: str) -> ArtefactError:
    return ArtefactError(f"the input cannot be folded: {cause}.")
