"""Give every node blob its values, as Caffe's CopyTrainedLayersFrom does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod

import numpy as np

from caffe2torch.errors import Caffe2TorchError, WeightsError
from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import inline_blobs
from caffe2torch.io.hdf5 import ABSENT
from caffe2torch.io.schema import Message, enum_value
from caffe2torch.layers._base import BlobSpec
from caffe2torch.passes.draft import BlobSource, Draft, DraftNode, Options, Slot
from caffe2torch.passes.fillers import DETERMINISTIC, check_filler, fill

ALIKE = (
    "Caffe finds weights by the layer's name, and gives those of all entries of a name to the "
    "first layer of it: give each layer a name of its own before the weights are saved."
)
MAX_FILLED = 1 << 29
"""Values made up in place of missing weights: 2 GiB, the most that a caffemodel can hold."""


def share_blobs(draft: Draft) -> None:
    """Find the owner of each blob: the first one of the same ``param { name }``.

    Raises WeightsError where the shapes do not allow it, and NetError for different learning
    rates and a filler that cannot be. Blobs of different shapes and ``share_mode: PERMISSIVE``
    are the same values, row by row. Before::

        layer { name: "a" type: "Convolution" param { name: "w" } }
        layer { name: "b" type: "Convolution" param { name: "w" } }

    After: the weight of ``b`` has the owner (0, 0), the weight of ``a``; its bias is its own.
    """
    named: dict[str, tuple[Slot, BlobSpec, str]] = {}
    rates: dict[tuple[str, str], float] = {}
    for index, node in enumerate(draft.nodes):
        params, owners = node.proto.param, []
        for position, spec in enumerate(node.specs):
            if not node.proto.blobs:
                with _naming_layer(node, spec.name):
                    check_filler(spec.filler, spec.shape)
            slot = (index, position)
            name = params[position].name if position < len(params) else ""
            if name:
                _check_rates(node, params[position], rates)
            if name and name in named:
                owner, owned_spec, owner_layer = named[name]
                _check_shared(node, params[position], spec, owned_spec, owner_layer)
                if spec.shape != owned_spec.shape:
                    draft.warnings.append(
                        f"layers {owner_layer!r} and {node.proto.name!r} share the parameter "
                        f"{name!r} in the shapes {owned_spec.shape} and {spec.shape}: each has a "
                        "copy, and training would change one without the other"
                    )
                slot = owner
            elif name:
                named[name] = (slot, spec, node.proto.name)
            owners.append(slot)
        node.owners = owners


def attach_weights(draft: Draft) -> None:
    """Give every owned slot its values, and the draft its warnings.

    Weights are matched by layer name; the last entry of a name, or of a shared blob, wins.
    Raises WeightsError for a wrong count or shape and for a layer without weights (with
    ``allow_missing`` it keeps its filler's values and is named in a warning). Blobs that
    no layer uses are named in a warning, or an error if ``strict``. Before: the blobs of the
    file's layer ``fc``, (1, 1, 5, 7) and (1, 1, 1, 5) in a V0 file. After: the values (5, 7)
    and (5) of an InnerProduct ``fc``. Without weights, arrays of the right shape that take no
    memory.
    """
    weights, nodes = draft.weights, draft.nodes
    if weights is None:
        draft.values = {
            slot: np.broadcast_to(np.float32(0), spec.shape) for slot, spec in _owned(nodes)
        }
        return
    index_of: dict[str, int] = {}
    for index, node in enumerate(nodes):
        index_of.setdefault(node.proto.name, index)
        if node.specs and node.proto.blobs:  # Caffe lets them replace the fillers.
            inline = _matched(node, index, inline_blobs(node.proto), "the prototxt")
            draft.values.update(inline)
    unused = []
    alike = Counter(node.proto.name for node in nodes if node.specs)
    for name, blobs in weights.entries:
        if name in index_of and nodes[index_of[name]].specs:
            index = index_of[name]
            with _saying_alike(alike[name]):
                draft.values.update(_matched(nodes[index], index, blobs, weights.path))
        elif blobs and name not in draft.left_out:
            unused.append(name)
    for slot, spec in _owned(nodes):
        if slot in draft.values:  # Another layer may have brought them, in its shape.
            draft.values[slot] = reshaped(draft.values[slot], spec.shape)
    draft.warnings += _fill_missing(nodes, draft.values, weights, draft.options)
    if unused:
        text = f"{weights.path} has weights for {_some(unused)}, which the net does not have"
        if draft.options.strict:
            raise WeightsError(f"{text}. Leave out --strict to ignore them.")
        draft.warnings.append(text)


def reshaped(array: FloatArray, shape: Shape) -> FloatArray:
    """``array`` itself if it has the ``shape``, else its values in it."""
    return array if array.shape == shape else array.reshape(shape)


def _owned(nodes: Sequence[DraftNode]) -> Iterator[tuple[Slot, BlobSpec]]:
    """Each slot that holds values, and what they are."""
    for index, node in enumerate(nodes):
        for position, (owner, spec) in enumerate(zip(node.owners, node.specs, strict=True)):
            if owner == (index, position):
                yield owner, spec


def shape_fits(file_shape: Shape, legacy: bool, target: Shape) -> bool:
    """Whether Caffe accepts a blob of ``file_shape`` for one of shape ``target``.

    A legacy shape is (num, channels, height, width): it aligns with the target's last axes,
    so that (1, 1, 1, N) is a bias (N) and (1, 1, M, N) an InnerProduct weight (M, N). C3D 1.0
    has a length before the height, which is 1 in layers without time. Any other shape must
    equal the target (Caffe: Blob::ShapeEquals).
    """
    if not legacy:
        return file_shape == target
    if len(file_shape) == 5 and len(target) == 4:
        target = (*target[:2], 1, *target[2:])
    missing = len(file_shape) - len(target)
    return missing >= 0 and file_shape == (1,) * missing + target


def _check_rates(node: DraftNode, param: Message, rates: dict[tuple[str, str], float]) -> None:
    """Raise NetError where a shared blob has a learning rate other than the first one given."""
    for field in ("lr_mult", "decay_mult"):
        if not param.HasField(field):
            continue
        given = getattr(param, field)
        first = rates.setdefault((param.name, field), given)
        if given != first:
            raise node.layer.net_error(
                f"{given:g} for the shared parameter {param.name!r}, which has {first:g} in an "
                "earlier layer; Caffe wants one value.",
                f"param.{field}",
            )


def _check_shared(
    node: DraftNode, param: Message, spec: BlobSpec, owned: BlobSpec, owner: str
) -> None:
    permissive = param.share_mode == enum_value("ParamSpec.DimCheckMode", "PERMISSIVE")
    same_size = prod(spec.shape) == prod(owned.shape)
    if spec.shape != owned.shape and not (permissive and same_size):
        raise _weights_error(
            node,
            f"shares the parameter {param.name!r} with layer {owner!r}, whose blob has the shape "
            f"{owned.shape}; this one has {spec.shape}. Give them names of their own.",
            "param",
        )


def _matched(
    node: DraftNode, index: int, blobs: Sequence[Blob], path: str
) -> dict[Slot, FloatArray]:
    """The blobs of the layer by owner; raises WeightsError if they are not those it wants."""
    if not blobs:
        return {}
    # HDF5 files leave out what another layer owns; the rest must be complete.
    borrowed = [owner != (index, position) for position, owner in enumerate(node.owners)]
    offered = [*blobs, *[ABSENT] * (len(node.specs) - len(blobs))]
    absent = [blob is ABSENT for blob in offered]
    if len(offered) != len(node.specs) or any(
        a and not b for a, b in zip(absent, borrowed, strict=False)
    ):
        wanted = ", ".join(f"{s.name} {s.shape}" for s in node.specs)
        raise _weights_error(
            node,
            f"{path} has {len(blobs)} blobs for it, the net wants {len(node.specs)} "
            f"({wanted}). The weights belong to another net.",
        )
    values = {}
    for position, (blob, spec) in enumerate(zip(offered, node.specs, strict=True)):
        if blob is ABSENT:
            continue
        shapes = (spec.shape, *spec.other_shapes)
        if not any(shape_fits(blob.shape, blob.legacy, shape) for shape in shapes):
            if spec.any_shape:
                values[node.owners[position]] = np.zeros(spec.shape, np.float32)
                continue
            raise _weights_error(
                node,
                f"blob {position} ({spec.name}) has the shape {blob.shape} in {path} and "
                f"{spec.shape} in the net. Rename the layer to start it from its filler, or "
                "give the prototxt that belongs to the weights.",
            )
        values[node.owners[position]] = reshaped(np.asarray(blob.data, "<f4"), spec.shape)
    return values


def _fill_missing(
    nodes: Sequence[DraftNode],
    values: dict[Slot, FloatArray],
    weights: BlobSource,
    options: Options,
) -> list[str]:
    """Fill what has no values yet, where that is allowed."""
    _check_missing_size(nodes, values)
    rng = np.random.default_rng(options.seed)
    missing: dict[int, list[BlobSpec]] = {}
    for index, node in enumerate(nodes):
        for owner, spec in zip(node.owners, node.specs, strict=True):
            if owner not in values:
                certain = spec.given and spec.filler.type in DETERMINISTIC and not weights.given
                if not certain:
                    missing.setdefault(index, []).append(spec)
                if certain or options.allow_missing:
                    values[owner] = _filled(node, spec, rng)
    if missing and not options.allow_missing:
        raise _missing_error([(nodes[i], specs) for i, specs in missing.items()], weights)
    return [
        f"layer {nodes[i].proto.name!r} has no weights in {weights.path or 'any file'}: "
        f"{', '.join(s.name for s in specs)} keep the values of the filler"
        for i, specs in missing.items()
    ]


def _check_missing_size(nodes: Sequence[DraftNode], values: Mapping[Slot, FloatArray]) -> None:
    total = 0
    for node in nodes:
        for owner, spec in zip(node.owners, node.specs, strict=True):
            total += 0 if owner in values else prod(spec.shape)
            if total > MAX_FILLED:
                raise _weights_error(
                    node,
                    f"{spec.name} {spec.shape} has no weights, and together with those before it "
                    f"the net wants more than {MAX_FILLED} values that no file gives. Give the "
                    "weights, or correct the sizes in the prototxt.",
                )


def _filled(node: DraftNode, spec: BlobSpec, rng: np.random.Generator) -> FloatArray:
    with _naming_layer(node, spec.name):
        return fill(spec.filler, spec.shape, rng)


@contextmanager
def _naming_layer(node: DraftNode, field: str) -> Iterator[None]:
    """Name the layer in an error that does not know it."""
    try:
        yield
    except Caffe2TorchError as error:
        raise type(error)(
            error.reason, layer=node.proto.name, type=node.proto.type, field=field
        ) from None


@contextmanager
def _saying_alike(count: int) -> Iterator[None]:
    """Say, in an error about the weights of one of ``count`` layers of a name, that this is why."""
    try:
        yield
    except WeightsError as error:
        if count == 1:
            raise
        raise WeightsError(
            f"{count} layers of the net have this name. {ALIKE} (Of the first, {error.reason})",
            layer=error.layer,
            type=error.type,
        ) from None


def _missing_error(
    missing: Sequence[tuple[DraftNode, Sequence[BlobSpec]]], weights: BlobSource
) -> WeightsError:
    node, specs = missing[0]
    if any(name == node.proto.name and blobs for name, blobs in weights.entries):
        return _weights_error(node, f"another layer before it has the same name. {ALIKE}")
    wanted = ", ".join(f"{spec.name} {spec.shape}" for spec in specs)
    others = f" The same holds for {len(missing) - 1} more layers." if len(missing) > 1 else ""
    offered = [name for name, blobs in weights.entries if blobs]
    has = (
        f"{weights.path} has weights for {_some(offered)}, not for it"
        if weights.given
        else "no weights are given"
    )
    return _weights_error(
        node,
        f"the net wants {wanted}; {has}.{others} Give the file that has them, or allow missing "
        "weights (--allow-missing) to keep the filler's values.",
    )


def _weights_error(node: DraftNode, message: str, field: str | None = None) -> WeightsError:
    return WeightsError(message, layer=node.proto.name, type=node.proto.type, field=field)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "no layer"
