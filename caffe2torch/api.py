"""The public functions: read, load, convert. The command line is a thin layer on them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from caffe2torch import extensions
from caffe2torch.artefact.layout import write_layout
from caffe2torch.artefact.read import is_artefact, read_artefact
from caffe2torch.artefact.write import check_suffix, write_graph
from caffe2torch.compressed import convolution_shapes, net_of_compressed
from caffe2torch.errors import (
    ArtefactError,
    Caffe2TorchError,
    Caffe2TorchWarning,
    NetError,
    ReadError,
)
from caffe2torch.graph import Graph, Shape
from caffe2torch.io.arrays import ignore
from caffe2torch.io.caffemodel import Weights, read_caffemodel
from caffe2torch.io.checksum import Checksum, computing
from caffe2torch.io.deep_compression import is_deep_compression, read_deep_compression
from caffe2torch.io.files import Source
from caffe2torch.io.prototxt import parse_prototxt, read_prototxt
from caffe2torch.passes.data_layers import find_preprocessing
from caffe2torch.passes.draft import CROP_RULES, Options, State
from caffe2torch.pipeline import blob_source, build_graph, restore_graph, upgrade_net
from caffe2torch.preprocessing import Preprocessing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffe2torch.lower.to_torch import CaffeModule

PathLike = str | os.PathLike[str]


class ReadOptions(TypedDict, total=False):
    """The keyword arguments of ``read``, for the functions that pass them on."""

    phase: str
    level: int
    stages: Sequence[str]
    allow_missing: bool
    strict: bool
    input_shapes: Mapping[str, Shape] | None
    outputs: Sequence[str]
    crop: str


def read(
    model: Source | None = None,
    prototxt: Source | None = None,
    *,
    phase: str = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
    allow_missing: bool = False,
    strict: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] = (),
    crop: str = "bvlc",
) -> Graph:
    """Read a net into a Graph.

    Args:
        model: a ``.caffemodel`` (binary or HDF5), or an artefact of ``convert``. Without a
            prototxt it describes its own net. Bytes are the content of a caffemodel. A
            ``.net`` is a Deep Compression file; without a prototxt its net is the ``.prototxt``
            of the same name beside it, else the known net (SqueezeNet v1.0 or v1.1) that fits.
        prototxt: the net, of any generation, as a path or as bytes; weights are matched by
            layer name.
        phase: ``TEST`` or ``TRAIN``; with ``level`` and ``stages`` the state that decides
            which layers are in the net.
        allow_missing: let a layer without weights keep its filler's values.
        strict: refuse weights that no layer uses, instead of warning.
        input_shapes: shapes by input blob that replace the declared ones.
        outputs: blobs to read the net up to: what they need is converted, the rest dropped,
            whatever it is. They become the graph's outputs; without any, it is read whole.
        crop: whose rule holds for a Crop layer without crop_param: ``bvlc``, offset 0, or
            ``fork``, alignment by coordinates as in the forks of FCN and HED.

    Raises:
        Caffe2TorchError: a file or the net is not usable; the message says what to do.
    """
    if phase not in ("TEST", "TRAIN"):
        raise NetError(f"phase {phase!r} is neither 'TEST' nor 'TRAIN'.")
    if crop not in CROP_RULES:
        raise NetError(f"crop {crop!r} is none of {', '.join(map(repr, CROP_RULES))}.")
    if model is None and prototxt is None:
        raise NetError("give a model, a prototxt, or both.")
    if model is not None and not isinstance(model, bytes) and is_artefact(model):
        return _read_artefact(model, prototxt, outputs)
    state = State(phase, level, tuple(stages))
    until = tuple(dict.fromkeys(outputs))
    options = Options(allow_missing, strict, input_shapes or {}, prototxt is None, until, crop)
    if is_deep_compression(model):
        prototxt = prototxt or net_of_compressed(model)
        net, options = read_prototxt(prototxt), replace(options, of_weights=False)
        shapes = convolution_shapes(build_graph(net, None, state, options))
        weights: Weights | None = read_deep_compression(model, shapes)
    else:
        weights = None if model is None else read_caffemodel(model)
        if prototxt is not None:
            net = read_prototxt(prototxt)
        else:
            assert weights is not None
            net = weights.net
            if any(len(b.shape) == 5 and b.legacy for blobs in weights.blobs for b in blobs):
                raise ReadError(
                    f"{weights.path}: is a caffemodel of C3D 1.0, which numbers layer types and "
                    "fields in its own way; give the net's prototxt too"
                )
    graph = build_graph(net, blob_source(weights), state, options)
    graph = replace(graph, source_sha256=weights.sha256 if weights else None)
    if graph.preprocessing is None and weights is not None and prototxt is not None:
        # A deploy net has no data layer; that of the file of its weights may have one.
        # What a fork wrote there may be unreadable, and is of no interest beside a prototxt.
        with suppress(Caffe2TorchError):
            recorded = find_preprocessing(upgrade_net(weights.net).layer)
            graph = replace(graph, preprocessing=recorded)
    for warning in graph.warnings:
        warnings.warn(warning, Caffe2TorchWarning, stacklevel=2)
    return graph


def load(
    model: PathLike | None = None,
    prototxt: PathLike | None = None,
    *,
    device: Any = "cpu",
    input: str | None = None,
    mean: Sequence[float] | None = None,
    scale: float | None = None,
    **read_options: Unpack[ReadOptions],
) -> CaffeModule:
    """Read a net and lower it to a torch module on ``device``.

    ``input``, ``mean`` and ``scale`` are as for ``convert``, the rest as for ``read``.
    """
    from caffe2torch.lower.to_torch import to_torch

    graph = read(model, prototxt, **read_options)
    return to_torch(_with_input(graph, input, mean, scale)).to(device)


def convert(
    model: PathLike | None,
    output: PathLike,
    prototxt: PathLike | None = None,
    *,
    input: str | None = None,
    mean: Sequence[float] | None = None,
    scale: float | None = None,
    layout: str | None = None,
    half: bool = False,
    optimize: bool = False,
    opset: int | None = None,
    batch: int | None = None,
    static: bool = False,
    fixed_rows: bool = False,
    external_data: bool = False,
    bare: bool = False,
    writer: Callable[..., None] | None = None,
    progress: Callable[[int], None] | None = None,
    **read_options: Unpack[ReadOptions],
) -> Path:
    """Convert to the kind of file that the suffix of ``output`` names.

    ``.pt`` and ``.safetensors`` are artefacts for ``load`` (and ``squeezenet.load_pretrained``
    where the net is a SqueezeNet); ``.onnx`` is an ONNX model; ``.py`` is PyTorch source that
    runs without caffe2torch, with its weights beside it (``net.weights.pt``). The file is
    written whole or not at all, and the same input gives the same bytes.

    Args:
        model: with ``prototxt`` and ``read_options`` as for ``read``.
        output: the file to write.
        prototxt: see ``model``.
        input: ``rgb01`` (RGB in [0, 1]) or ``imagenet`` (that, normalised as torchvision
            does): the net's own preprocessing is folded into its first convolution. None
            leaves the net's input as it is. Of a net that is known (a SqueezeNet) and does
            not say otherwise, the published preprocessing is taken.
        mean: what the net subtracts from a pixel, one number or one a channel in the order
            of its input (Caffe: BGR), if the file does not say it. It is recorded.
        scale: the factor after the mean, likewise.
        layout: write a bare state_dict (.pt, .safetensors) under the names of another project,
            which no command here reads. ``torchvision`` comes with the package squeezenet, for
            a SqueezeNet v1.1 and torchvision's ``squeezenet1_1``.
        half: store the weights as float16, which loading widens to float32. An ``.onnx``
            computes in float16 too, but for layers that would overflow or lose too much; its
            inputs and outputs stay float32.
        optimize: fold BatchNorm, Scale and Bias into the layer before them and remove
            Dropout: for inference, as ``caffe2torch.optimize`` does for a module.
        opset: of an ``.onnx``: the version of its operators, 13 to the newest that onnx knows; 17
            by default.
        batch: of an ``.onnx``: the size of its batch, which is open otherwise where the net
            allows it.
        static: of an ``.onnx``: all sizes as the net declares them, for readers that take no open
            ones.
        fixed_rows: of an ``.onnx``: ``static``, and detections in a fixed number of rows, for
            readers that know no sizes which depend on the data. Rows that are left over are -1.
        external_data: of an ``.onnx``: its weights in ``NAME.onnx.data`` beside it, as those of a
            model above 2 GB always are.
        bare: of a ``.pt`` or ``.safetensors``: the state_dict of the module alone, for programs
            without caffe2torch: ``torch.load(path, weights_only=True)``. No command here reads it.
        writer: what writes the graph in place of the suffix's own writer, with its arguments;
            ``caffe2torch.consumers`` has some.
        progress: called with the number of bytes of each piece of the weights when it has
            been written.

    Returns:
        The path of the file.
    """
    given = {
        "opset": opset,
        "batch": batch,
        "static": static,
        "fixed_rows": fixed_rows,
        "external_data": external_data,
        "bare": bare,
    }
    form = {name: value for name, value in given.items() if value not in (None, False)}
    if writer is None:
        check_suffix(output, form)
    graph = read(model, prototxt, **read_options)
    with computing(graph.source_sha256):
        graph = _with_input(graph, input, mean, scale)
        if optimize:
            from caffe2torch.rewrites.fuse import fuse

            graph = fuse(graph)
        if layout is None:
            told, write = progress or ignore, writer or write_graph
            write(graph, output, half=half, durable=False, progress=told, **form)
        else:
            write_layout(graph, output, layout, half=half)
    return Path(output)


def _with_input(
    graph: Graph, input: str | None, mean: Sequence[float] | None, scale: float | None
) -> Graph:
    """The preprocessing that the caller knows recorded, then folded if ``input`` is given."""
    from caffe2torch.rewrites.fold_input import fold_input, set_preprocessing

    graph = set_preprocessing(graph, mean, scale)
    if input is None:
        return graph
    names = extensions.names(extensions.PREPROCESSING) if graph.preprocessing is None else ()
    for name in names:  # What is known of nets like this one, for a file that does not say.
        if known := extensions.load(extensions.PREPROCESSING, name)(graph):
            return fold_input(replace(graph, preprocessing=known), input)
    return fold_input(graph, input)


def _read_artefact(model: PathLike, prototxt: Source | None, until: Sequence[str]) -> Graph:
    if prototxt is not None:
        raise ArtefactError(f"{model} describes its own net; leave out the prototxt.")
    if until:
        raise ArtefactError(
            f"{model} is converted already, up to {until[0]!r} it would be another net; convert "
            "the caffemodel again with --until."
        )
    metadata, params = read_artefact(model)
    try:
        name, phase = str(metadata["name"]), str(metadata["phase"])
        definition = str(metadata["definition"])
        renamed = metadata.get("params") or {key: key for key in params}
        own = {key: params[stored] for key, stored in renamed.items()}
        outputs = tuple(map(str, metadata["outputs"]))
        preprocessing = Preprocessing.from_record(metadata["preprocessing"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{model}: its metadata is incomplete ({error}).") from error
    graph = restore_graph(parse_prototxt(definition, f"the definition in {model}"), own, phase)
    if unknown := [blob for blob in outputs if blob not in graph.blobs]:
        raise ArtefactError(f"{model}: its output {unknown[0]!r} is not in its definition.")
    recorded = metadata.get("source_sha256")
    checksum = Checksum.known(str(recorded)) if recorded else None
    return replace(
        graph,
        name=name,
        outputs=outputs,
        preprocessing=preprocessing,
        source_sha256=checksum,
    )
