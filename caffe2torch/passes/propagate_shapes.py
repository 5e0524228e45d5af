"""The shape of every value, layer by layer, as Caffe's Reshape gives them."""

from __future__ import annotations

from math import prod

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer
from caffe2torch.passes.draft import MAX_COUNT, Draft


def propagate_shapes(draft: Draft) -> None:
    """Find the shape of every value, and the learned blobs that each layer has for them.

    Raises NetError naming the layer for a negative size or a blob above Caffe's limit.
    Before::

        layer { type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 7 dim: 5 } } }
        layer { type: "Convolution" bottom: "x" top: "c"
          convolution_param { num_output: 6 kernel_size: 3 } }

    After: the shapes x (1, 3, 7, 5) and c (1, 6, 5, 3), and the blobs weight (6, 3, 3, 3) and
    bias (6) of the convolution.
    """
    shapes = draft.shapes
    for node in [*draft.sources, *draft.nodes]:
        bottoms = [shapes[value] for value in node.inputs]
        tops = node.layer.infer_shapes(bottoms)
        for value, shape in zip(node.outputs, tops, strict=True):
            _check_size(node.layer, shape)
            shapes[value] = tuple(int(size) for size in shape)
    for node in draft.nodes:
        node.specs = node.layer.blob_specs([shapes[value] for value in node.inputs])


def _check_size(layer: Layer, shape: Shape) -> None:
    """Raise NetError if Caffe could not hold a blob of ``shape``."""
    if any(size < 0 for size in shape):
        raise layer.net_error(
            f"the output would have the shape {tuple(shape)}: the input is too small for it."
        )
    if prod(shape) > MAX_COUNT:
        raise layer.net_error(f"a blob of shape {tuple(shape)} has more than 2**31 - 1 elements.")
