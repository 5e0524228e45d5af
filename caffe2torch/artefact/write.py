"""Write a graph as the kind of file that a suffix names."""

from __future__ import annotations

import os
from pathlib import Path

from caffe2torch.artefact.metadata import metadata_of
from caffe2torch.errors import ArtefactError
from caffe2torch.graph import Graph
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


def write_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` as the kind of artefact that the suffix names, atomically."""
    from squeezenet.recognise import recognise

    check_suffix(path)
    if Path(path).suffix == ".py":
        from caffe2torch.artefact.source import write_source

        return write_source(path, graph)
    spec = recognise(graph)
    metadata = metadata_of(graph, spec.architecture if spec else None)
    params = {(spec.params[k] if spec else k): v for k, v in graph.params.items()}
    metadata["params"] = {key: spec.params[key] for key in graph.params} if spec else None
    suffix = Path(path).suffix
    with atomic_write(path) as file:
        if suffix == ".onnx":
            from caffe2torch.artefact.onnx import write_onnx

            write_onnx(file, graph, metadata)
        elif suffix == ".safetensors":
            from caffe2torch.artefact.safetensors import write_safetensors

            write_safetensors(file, params, metadata)
        else:
            from caffe2torch.artefact.pt import write_pt

            write_pt(file, params, metadata)
