"""The .onnx form, in one file or with its weights beside it."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from caffe2torch.artefact.write import FORMAT, PathLike, draft, dumps, metadata_of, register_writer
from caffe2torch.errors import ArtefactError, Caffe2TorchWarning
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io.arrays import Progress, header_last, seekable, write_array
from caffe2torch.io.atomic import atomic_group
from caffe2torch.io.fields import head_bytes

if TYPE_CHECKING:
    import onnx

    from caffe2torch.lower.to_onnx import OnnxModel

LARGEST = 2**31 - 1
"""Bytes of a file that every protobuf library reads; above it weights go beside it."""
DATA_SUFFIX = ".data"
"""Added to the name of the model for the file of its weights."""
ALIGNMENT = 4096
"""Where each array begins in that file, so that it can be mapped (ONNX's external data)."""


@register_writer(".onnx")
def write_onnx(
    path: PathLike,
    graph: Graph,
    *,
    half: bool,
    durable: bool,
    progress: Progress,
    opset: int | None = None,
    batch: int | None = None,
    static: bool = False,
    fixed_rows: bool = False,
    external_data: bool = False,
    rewrite: Callable[[onnx.ModelProto], None] = lambda model: None,
) -> None:
    """Write the ONNX form, in float16 if ``half`` but for layers that the metadata names.

    ``opset``, ``batch``, ``static`` and ``fixed_rows`` are as for ``to_onnx``, whose own opset is
    the default.
    ``rewrite`` changes the finished graph, which is without its learned arrays, in place.

    A model above 2 GB, and any if ``external_data``, has its weights in ``NAME.onnx.data`` beside
    it, published together with it. Raises UnsupportedLayerError where ONNX has no form for a layer,
    and ArtefactError for a net without outputs.
    """
    from caffe2torch.lower.batch import with_batch
    from caffe2torch.lower.memory import remembering
    from caffe2torch.lower.to_onnx import OPSET, to_onnx

    if not graph.outputs:
        raise ArtefactError(
            "the net has no outputs: Silence, or a loss without a top, takes all that it computes. "
            "An ONNX file needs one; leave those layers out of the prototxt."
        )
    if names := remembering(graph):
        warnings.warn(
            f"an ONNX file has no memory: each run is the first one of the {_layers(names)}, where "
            "Caffe goes on with what its last pass left. In an LSTM or RNN expose_hidden: true "
            "makes the states inputs and outputs; a .pt goes on as Caffe does.",
            Caffe2TorchWarning,
            stacklevel=2,
        )
    metadata = metadata_of(graph if batch is None else with_batch(graph, batch))
    model = to_onnx(graph, opset=opset or OPSET, batch=batch, static=static, fixed_rows=fixed_rows)
    rewrite(model.skeleton)
    if half:
        from caffe2torch.lower.half import to_float16

        model, kept = to_float16(model)
        metadata["float32_layers"] = list(kept)
    entry = model.skeleton.metadata_props.add()
    entry.key = FORMAT

    def skeleton(text_of: Callable[[Mapping[str, Any]], str]) -> bytes:
        """The model without the arrays of its learned weights."""
        entry.value = text_of(metadata)
        return bytes(model.skeleton.SerializeToString(deterministic=True))

    heads = {name: _initializer_head(name, array) for name, array in model.weights.items()}
    size = sum(len(head) + model.weights[name].nbytes for name, head in heads.items())
    with atomic_group(durable) as group:
        if external_data or size + len(skeleton(draft)) > LARGEST:
            data = group.open(f"{os.fspath(path)}{DATA_SUFFIX}")
            location = os.path.basename(f"{os.fspath(path)}{DATA_SUFFIX}")
            _write_data(data, model, location, progress)
            group.open(path).write(skeleton(dumps))
            return
        with (
            seekable(group.open(path)) as file,
            header_last(file, skeleton(draft), lambda: skeleton(dumps)),
        ):
            for name, array in model.weights.items():
                file.write(heads[name])
                write_array(file, array, progress)


def float32_layers(path: PathLike) -> list[str]:
    """The names of the layers that a file of ``half`` has in float32."""
    import onnx

    properties = onnx.load(path, load_external_data=False).metadata_props
    (text,) = (entry.value for entry in properties if entry.key == FORMAT)
    return list(map(str, json.loads(text)["float32_layers"]))


def _layers(names: Sequence[str]) -> str:
    return f"layer{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _initializer_head(name: str, array: FloatArray) -> bytes:
    """The start of ModelProto { graph { initializer } }: protobuf merges it into the graph."""
    from caffe2torch.lower.to_onnx import initializer

    tensor = initializer(name, array).SerializeToString(deterministic=True)
    tensor += head_bytes(9, array.nbytes)
    length = len(tensor) + array.nbytes
    head = head_bytes(5, length)
    return bytes(head_bytes(7, len(head) + length) + head + tensor)


def _write_data(file: BinaryIO, model: OnnxModel, location: str, progress: Progress) -> None:
    """Write the arrays to their own file, and into the skeleton where they are."""
    from caffe2torch.lower.to_onnx import initializer

    with seekable(file) as out:
        start = out.tell()
        for name, array in model.weights.items():
            offset = out.tell() - start
            out.write(bytes(-offset % ALIGNMENT))
            offset += -offset % ALIGNMENT
            write_array(out, array, progress)
            tensor = initializer(name, array)
            tensor.data_location = tensor.EXTERNAL
            place = {"location": location, "offset": offset, "length": array.nbytes}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            model.skeleton.graph.initializer.append(tensor)
