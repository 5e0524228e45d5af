"""What shape an input may have that the net does not give: the weights say it where they can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.graph import Shape
from caffe2torch.io.blob import Blob
from caffe2torch.layers import Role
from caffe2torch.passes.draft import Draft, DraftNode

USUAL = (224, 227, 256, 28, 32, 64, 96, 112, 128, 299, 300, 512)
"""Heights and widths that are tried before the others."""
SIZES = {3: "W", 5: "D,H,W"}
"""What stands for the sizes of a blob of so many axes that are not four."""
LARGEST = 320
"""Of the others."""


def suggested_shape(blob: str, draft: Draft) -> str:
    """A shape for ``--input-shape``: ``1,1,28,28``, or with letters for what may be chosen.

    The channels and the axes are those of the first convolution, the height and width (equal
    ones) the first with which all InnerProducts have the inputs that their weights want.
    """
    wanted = _wanted(draft)
    channels = channels_of_weights(blob, draft)
    if any(node.proto.HasField("inner_product_param") for node, _ in wanted):
        sizes = dict.fromkeys((*USUAL, *range(1, LARGEST)))
        for count, size in product([channels] if channels else [3, 1], sizes):
            if _fits(blob, (1, count, size, size), draft, wanted):
                return f"1,{count},{size},{size}"
        for node, blobs in wanted:
            shape = 1, blobs[0].shape[-1]
            if blob in node.inputs and _fits(blob, shape, draft, wanted):
                return f"1,{shape[1]}"
    return f"1,{channels or 3},{SIZES.get(_first_axes(blob, draft), 'H,W')}"


def _first_axes(blob: str, draft: Draft) -> int:
    """The axes of the weights of the first convolution that reads ``blob``; 0: there are none."""
    for node, blobs in _wanted(draft):
        if blob in node.inputs and node.proto.HasField("convolution_param"):
            return len(blobs[0].shape)
    return 0


def channels_of_weights(blob: str, draft: Draft, size: tuple[int, ...] | None = None) -> int | None:
    """The channels that the first convolution wants on the way from ``blob``, if there is one.

    The way goes through layers that leave the channels as they are. Where the height and width
    ``size`` is known, an InnerProduct that reads the blob tells them too.
    """
    found = {id(node): blobs for node, blobs in _wanted(draft)}
    same = {blob}
    for node in draft.nodes:
        if not node.inputs or node.inputs[0] not in same:
            continue
        blobs = found.get(id(node))
        if blobs and node.proto.HasField("convolution_param") and len(blobs[0].shape) > 2:
            if node.proto.type == "Deconvolution":
                return int(blobs[0].shape[0])
            return int(blobs[0].shape[1] * node.proto.convolution_param.group)
        if blobs and size and blob in node.inputs and node.proto.HasField("inner_product_param"):
            return int(blobs[0].shape[-1]) // prod(size)
        if not blobs and _keeps_channels(node):
            same.update(node.outputs)
    return None


def _keeps_channels(node: DraftNode) -> bool:
    try:
        tops = node.layer.infer_shapes([(1, 7, 64, 64)] * len(node.inputs))
    except Caffe2TorchError:
        return False
    return all(len(top) == 4 and top[1] == 7 for top in tops)


def _wanted(draft: Draft) -> list[tuple[DraftNode, Sequence[Blob]]]:
    """The nodes that have weights in the file."""
    blobs = dict(draft.weights.entries) if draft.weights else {}
    return [(node, found) for node in draft.nodes if (found := blobs.get(node.proto.name))]


def _fits(
    blob: str, shape: Shape, draft: Draft, wanted: Sequence[tuple[DraftNode, Sequence[Blob]]]
) -> bool:
    """Whether the weights have the sizes that the layers want if ``blob`` has the ``shape``."""
    found = {id(node): blobs for node, blobs in wanted}
    shapes = {**dict(_other_inputs(blob, draft)), blob: shape}
    for node in draft.nodes:
        if not all(name in shapes for name in node.inputs):
            continue
        bottoms = [shapes[name] for name in node.inputs]
        try:
            shapes.update(zip(node.outputs, node.layer.infer_shapes(bottoms), strict=True))
            specs = node.layer.blob_specs(bottoms)
        except Caffe2TorchError:
            return False
        blobs = found.get(id(node), ())
        if any(prod(s.shape) != prod(b.shape) for s, b in zip(specs, blobs, strict=False)):
            return False
    return all(name in shapes for node, _ in wanted for name in node.inputs)


def _other_inputs(blob: str, draft: Draft) -> Iterator[tuple[str, Shape]]:
    """The shapes of the net's other inputs, as far as they are known."""
    given = draft.options.input_shapes
    for node in draft.sources:
        declared = node.layer.infer_shapes(()) if node.layer.role is Role.INPUT else ()
        yield from zip(node.outputs, declared, strict=False)
        yield from ((top, given[top]) for top in node.outputs if top in given)
