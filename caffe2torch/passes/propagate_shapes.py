"""The shape of every value, layer by layer, as Caffe's Reshape gives them."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, Role, net_error
from caffe2torch.passes.draft import MAX_COUNT, Draft, DraftNode


def propagate_shapes(draft: Draft) -> None:
    """Find the shape of every value, and the learned blobs that each layer has for them.

    A layer that NaN or infinity may reach, from a layer that makes them, is told so. Raises
    NetError naming the layer for a source that is not an Input with shapes (in a damaged
    artefact), a size that is not positive, a blob above Caffe's limit and more ``param``
    entries than learned blobs.
    Before::

        layer { type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 7 dim: 5 } } }
        layer { type: "Convolution" bottom: "x" top: "c"
          convolution_param { num_output: 6 kernel_size: 3 } }

    After: the shapes x (1, 3, 7, 5) and c (1, 6, 5, 3), and the blobs weight (6, 3, 3, 3) and
    bias (6) of the convolution.
    """
    shapes = draft.shapes
    non_finite: set[str] = set()
    for node in draft.sources:
        _check_source(node)
    for node in [*draft.sources, *draft.nodes]:
        bottoms = [shapes[value] for value in node.inputs]
        tops = node.layer.infer_shapes(bottoms)
        for value, shape in zip(node.outputs, tops, strict=True):
            _check_size(node.layer, shape)
            shapes[value] = tuple(int(size) for size in shape)
        reached = not non_finite.isdisjoint(node.inputs)
        if reached or not node.layer.keeps_finite(bottoms):
            non_finite.update(node.outputs)
        if reached:
            node.layer = replace(node.layer, non_finite=True)
    for node in draft.nodes:
        node.specs = node.layer.blob_specs([shapes[value] for value in node.inputs])
        if len(node.proto.param) > len(node.specs):
            raise node.layer.net_error(
                f"has {len(node.proto.param)} entries for {len(node.specs)} learned blobs; remove "
                "what is too much.",
                "param",
            )


def _check_source(node: DraftNode) -> None:
    """Raise NetError if it is not known what shapes the tops of a source have."""
    if node.layer.role is not Role.INPUT or not node.layer.infer_shapes(()):
        raise net_error(
            node.proto,
            "it does not say what shapes its tops have, as every source of a converted net does: "
            "the definition is damaged. Convert the net again.",
        )


def _check_size(layer: Layer, shape: Shape) -> None:
    """Raise NetError if Caffe could not hold a blob of ``shape``."""
    if any(size < 0 for size in shape):
        raise layer.net_error(
            f"the output would have the shape {tuple(shape)}: the input is too small for it."
        )
    if not prod(shape):
        raise layer.net_error(f"a blob of shape {tuple(shape)} has no elements.")
    if prod(shape) > MAX_COUNT:
        raise layer.net_error(f"a blob of shape {tuple(shape)} has more than 2**31 - 1 elements.")
