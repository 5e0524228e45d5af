"""Give every learned blob its values, as Caffe's CopyTrainedLayersFrom does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from caffe2torch.errors import Caffe2TorchError, WeightsError
from caffe2torch.graph import FloatArray
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import inline_blobs
from caffe2torch.io.hdf5 import ABSENT
from caffe2torch.io.schema import Message, enum_value
from caffe2torch.layers._base import BlobSpec, Layer
from caffe2torch.passes.blob_shape import fits
from caffe2torch.passes.blob_source import BlobSource, as_float32
from caffe2torch.passes.fillers import DETERMINISTIC, fill

SEED = 0
"""Of the random fillers that stand in for missing weights: the same file, the same net."""

MAX_FILLED = 1 << 29
"""Values made up in place of missing weights: 2 GiB, the most that a caffemodel can hold."""

Slot = tuple[int, int]
"""A learned blob's place: index of its layer in the net, index of the blob in the layer."""


@dataclass
class LearnedLayer:
    """A layer and its learned blobs; ``owners``, set by share_blobs, hold their values."""

    proto: Message
    layer: Layer
    specs: Sequence[BlobSpec]
    owners: list[Slot] = field(default_factory=list)


def attach_weights(
    layers: Sequence[LearnedLayer],
    weights: BlobSource,
    *,
    allow_missing: bool = False,
    strict: bool = False,
) -> tuple[dict[Slot, FloatArray], list[str]]:
    """Return the values of every owned slot, and warnings; ``share_blobs`` has been called.

    Weights are matched by layer name; the last entry of a name, or of a shared blob, wins.
    Raises WeightsError for a wrong count or shape and for a layer without weights (with
    ``allow_missing`` it keeps its filler's values and is named in a warning). Blobs that
    no layer uses are named in a warning, or an error if ``strict``.
    """
    values = _inline_values(layers)
    index_of: dict[str, int] = {}
    for index, learned in enumerate(layers):
        index_of.setdefault(learned.proto.name, index)
    unused = []
    for name, blobs in weights.entries:
        if name in index_of and layers[index_of[name]].specs:
            learned = layers[index_of[name]]
            values.update(_matched(learned, index_of[name], blobs, weights.path))
        elif blobs:
            unused.append(name)
    warnings = _fill_missing(layers, values, weights, allow_missing)
    if unused:
        warnings += _report_unused(unused, weights.path, strict)
    return values, warnings


def share_blobs(layers: Sequence[LearnedLayer]) -> None:
    """Find the owner of each blob: the first one of the same ``param { name }``.

    Raises WeightsError where the shapes do not allow it.
    """
    named: dict[str, tuple[Slot, BlobSpec, str]] = {}
    for index, learned in enumerate(layers):
        params = learned.proto.param
        for position, spec in enumerate(learned.specs):
            slot = (index, position)
            name = params[position].name if position < len(params) else ""
            if name and name in named:
                owner, owned_spec, owner_layer = named[name]
                _check_shared(learned, params[position], spec, owned_spec, owner_layer)
                slot = owner
            elif name:
                named[name] = (slot, spec, learned.proto.name)
            learned.owners.append(slot)


def _check_shared(
    learned: LearnedLayer, param: Message, spec: BlobSpec, owned: BlobSpec, owner: str
) -> None:
    if param.share_mode == enum_value("ParamSpec.DimCheckMode", "PERMISSIVE"):
        same = int(np.prod(spec.shape)) == int(np.prod(owned.shape))
    else:
        same = spec.shape == owned.shape
    if not same:
        raise WeightsError(
            f"shares the parameter {param.name!r} with layer {owner!r}, whose blob has the shape "
            f"{owned.shape}; this one has {spec.shape}. Give them names of their own.",
            layer=learned.proto.name,
            type=learned.proto.type,
            field="param",
        )


def _inline_values(layers: Sequence[LearnedLayer]) -> dict[Slot, FloatArray]:
    """Weights written in the net itself; Caffe lets them replace the fillers."""
    values: dict[Slot, FloatArray] = {}
    for index, learned in enumerate(layers):
        if learned.specs and learned.proto.blobs:
            values.update(_matched(learned, index, inline_blobs(learned.proto), "the prototxt"))
    return values


def _matched(
    learned: LearnedLayer, index: int, blobs: Sequence[Blob], path: str
) -> dict[Slot, FloatArray]:
    """The blobs of the layer by owner; raises WeightsError if they are not those it wants."""
    where = {"layer": learned.proto.name, "type": learned.proto.type}
    if not blobs:
        return {}
    # HDF5 files leave out what another layer owns; the rest must be complete.
    borrowed = [owner != (index, position) for position, owner in enumerate(learned.owners)]
    offered = [*blobs, *[ABSENT] * (len(learned.specs) - len(blobs))]
    absent = [blob is ABSENT for blob in offered]
    if len(offered) != len(learned.specs) or any(
        a and not b for a, b in zip(absent, borrowed, strict=False)
    ):
        wanted = ", ".join(f"{s.name} {s.shape}" for s in learned.specs)
        raise WeightsError(
            f"{path} has {len(blobs)} blobs for it, the net wants {len(learned.specs)} "
            f"({wanted}). The weights belong to another net.",
            **where,
        )
    values = {}
    for position, (blob, spec) in enumerate(zip(offered, learned.specs, strict=True)):
        if blob is ABSENT:
            continue
        shapes = (spec.shape, *spec.other_shapes)
        if not any(fits(blob.shape, blob.legacy, shape) for shape in shapes):
            raise WeightsError(
                f"blob {position} ({spec.name}) has the shape {blob.shape} in {path} and "
                f"{spec.shape} in the net. Rename the layer to start it from its filler, or "
                "give the prototxt that belongs to the weights.",
                **where,
            )
        values[learned.owners[position]] = as_float32(blob, spec.shape)
    return values


def _fill_missing(
    layers: Sequence[LearnedLayer],
    values: dict[Slot, FloatArray],
    weights: BlobSource,
    allow_missing: bool,
) -> list[str]:
    """Fill what has no values yet, where that is allowed."""
    _check_missing_size(layers, values)
    rng = np.random.default_rng(SEED)
    missing: dict[int, list[BlobSpec]] = {}
    for index, learned in enumerate(layers):
        for owner, spec in zip(learned.owners, learned.specs, strict=True):
            if owner not in values:
                certain = spec.given and spec.filler.type in DETERMINISTIC and not weights.given
                if not certain:
                    missing.setdefault(index, []).append(spec)
                if certain or allow_missing:
                    values[owner] = _filled(learned, spec, rng)
    if missing and not allow_missing:
        raise _missing_error([(layers[i], specs) for i, specs in missing.items()], weights)
    return [
        f"layer {layers[i].proto.name!r} has no weights in {weights.path or 'any file'}: "
        f"{', '.join(s.name for s in specs)} keep the values of the filler"
        for i, specs in missing.items()
    ]


def _check_missing_size(layers: Sequence[LearnedLayer], values: Mapping[Slot, FloatArray]) -> None:
    total = 0
    for learned in layers:
        for owner, spec in zip(learned.owners, learned.specs, strict=True):
            total += 0 if owner in values else prod(spec.shape)
            if total > MAX_FILLED:
                raise WeightsError(
                    f"{spec.name} {spec.shape} has no weights, and together with those before it "
                    f"the net wants more than {MAX_FILLED} values that no file gives. Give the "
                    "weights, or correct the sizes in the prototxt.",
                    layer=learned.proto.name,
                    type=learned.proto.type,
                )


def _filled(learned: LearnedLayer, spec: BlobSpec, rng: np.random.Generator) -> FloatArray:
    try:
        return fill(spec.filler, spec.shape, rng)
    except Caffe2TorchError as error:
        raise type(error)(
            error.reason, layer=learned.proto.name, type=learned.proto.type, field=spec.name
        ) from None


def _missing_error(
    missing: Sequence[tuple[LearnedLayer, Sequence[BlobSpec]]], weights: BlobSource
) -> WeightsError:
    learned, specs = missing[0]
    wanted = ", ".join(f"{spec.name} {spec.shape}" for spec in specs)
    others = f" The same holds for {len(missing) - 1} more layers." if len(missing) > 1 else ""
    offered = [name for name, blobs in weights.entries if blobs]
    has = (
        f"{weights.path} has weights for {_some(offered)}, not for it"
        if weights.given
        else "no weights are given"
    )
    return WeightsError(
        f"the net wants {wanted}; {has}.{others} Give the file that has them, or allow missing "
        "weights (--allow-missing) to keep the filler's values.",
        layer=learned.proto.name,
        type=learned.proto.type,
    )


def _report_unused(names: Sequence[str], path: str, strict: bool) -> list[str]:
    text = f"{path} has weights for {_some(names)}, which the net does not have"
    if strict:
        raise WeightsError(f"{text}. Leave out --strict to ignore them.")
    return [text]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "no layer"
