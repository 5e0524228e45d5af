"""Write a graph as the kind of file that a suffix names."""

from __future__ import annotations

import os
from pathlib import Path

from caffe2torch.artefact.metadata import metadata_of
from caffe2torch.errors import ArtefactError
from caffe2torch.graph import Graph
from caffe2torch.io.arrays import Progress, ignore, to_half
from caffe2torch.io.atomic import atomic_write

SUFFIXES = (".pt", ".safetensors", ".onnx", ".py")


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise ArtefactError unless the suffix of ``path`` names a kind of file we write."""
    suffix = Path(path).suffix
    if suffix not in SUFFIXES:
        raise ArtefactError(
            f"cannot tell the kind of {os.fspath(path)!r} from its suffix {suffix!r}; use one of "
            f"{', '.join(SUFFIXES)}."
        )


def write_graph(
    graph: Graph,
    path: str | os.PathLike[str],
    *,
    half: bool = False,
    durable: bool = True,
    progress: Progress = ignore,
) -> None:
    """Write ``graph`` as the kind of artefact that the suffix names, atomically.

    ``half`` stores the learned arrays as float16; see ``to_half`` for what it refuses.
    ``durable`` False is for what can be made again; see ``atomic_group``. ``progress`` is
    told of the bytes of the arrays as they are written.
    """
    from squeezenet.recognise import recognise

    check_suffix(path)
    if Path(path).suffix == ".py":
        from caffe2torch.artefact.source import write_source

        return write_source(path, graph, half=half, durable=durable, progress=progress)
    spec = recognise(graph)
    metadata = metadata_of(graph, spec.architecture if spec else None)
    params = {(spec.params[k] if spec else k): v for k, v in graph.params.items()}
    metadata["params"] = {key: spec.params[key] for key in graph.params} if spec else None
    suffix = Path(path).suffix
    if suffix == ".onnx":
        from caffe2torch.artefact.onnx import write_onnx

        write_onnx(path, graph, metadata, half=half, durable=durable, progress=progress)
        return
    params = to_half(params) if half else params
    with atomic_write(path, durable) as file:
        if suffix == ".safetensors":
            from caffe2torch.artefact.safetensors import write_safetensors

            write_safetensors(file, params, metadata, progress=progress)
        else:
            from caffe2torch.artefact.pt import write_pt

            write_pt(file, params, metadata, progress)
