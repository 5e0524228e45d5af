"""Bare state_dicts in the layout of other projects: exports, which nothing here reads back."""

from __future__ import annotations

from pathlib import Path

from caffe2torch import extensions
from caffe2torch.artefact.pt import write_pt
from caffe2torch.artefact.safetensors import write_safetensors
from caffe2torch.artefact.write import PathLike
from caffe2torch.errors import ArtefactError
from caffe2torch.graph import Graph
from caffe2torch.io.arrays import to_half
from caffe2torch.io.atomic import atomic_write

SUFFIXES = (".pt", ".safetensors")


def write_layout(graph: Graph, path: PathLike, layout: str, *, half: bool = False) -> None:
    """Write the learned arrays of ``graph`` as a state_dict in ``layout``, atomically.

    A ``.pt`` holds the state_dict itself, a ``.safetensors`` its arrays. Raises ArtefactError
    for a net that the layout has no names for, and for another kind of file.
    """
    layouts = extensions.names(extensions.LAYOUTS)
    if layout not in layouts:
        raise ArtefactError(f"there is no layout {layout!r}; choose {', '.join(layouts)}.")
    if Path(path).suffix not in SUFFIXES:
        raise ArtefactError(
            f"{path}: a layout names the arrays of a state_dict; write {' or '.join(SUFFIXES)}."
        )
    params = extensions.load(extensions.LAYOUTS, layout)(graph)
    if half:
        params = to_half(params)
    with atomic_write(path) as file:
        if Path(path).suffix == ".safetensors":
            # What transformers and others look for before they load a file into torch.
            write_safetensors(file, params, None)
        else:
            write_pt(file, params, None)
