"""Bare state_dicts in the layout of other projects: exports, which nothing here reads back."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from caffe2torch.errors import ArtefactError, Caffe2TorchWarning
from caffe2torch.graph import Graph
from caffe2torch.io.arrays import to_half
from caffe2torch.io.atomic import atomic_write

LAYOUTS = ("torchvision",)
SUFFIXES = (".pt", ".safetensors")


def write_layout(
    graph: Graph, path: str | os.PathLike[str], layout: str, *, half: bool = False
) -> None:
    """Write the learned arrays of ``graph`` as a state_dict in ``layout``, atomically.

    A ``.pt`` holds the state_dict itself, a ``.safetensors`` its arrays. Warns where the net
    does not take the input that the layout's users make. Raises ArtefactError for a net that
    the layout has no names for, and for another kind of file.
    """
    from caffe2torch.rewrites.fold_input import INPUTS
    from squeezenet.torchvision import torchvision_state

    suffix = Path(path).suffix
    if layout not in LAYOUTS:
        raise ArtefactError(f"there is no layout {layout!r}; choose {', '.join(LAYOUTS)}.")
    if suffix not in SUFFIXES:
        raise ArtefactError(
            f"{os.fspath(path)}: a layout names the arrays of a state_dict; write "
            f"{' or '.join(SUFFIXES)}."
        )
    params = torchvision_state(graph)
    made, wanted = graph.preprocessing, INPUTS["imagenet"]
    if made is None or (made.channel_order, made.std) != (wanted.channel_order, wanted.std):
        warnings.warn(
            f"{os.fspath(path)} takes the net's own input (blue first, from 0 to 255, the mean "
            "subtracted) and cannot say so. For torchvision's own preprocessing add "
            "--input imagenet.",
            Caffe2TorchWarning,
            stacklevel=3,
        )
    if half:
        params = to_half(params)
    with atomic_write(path) as file:
        if suffix == ".safetensors":
            from caffe2torch.artefact.safetensors import write_safetensors

            # What transformers and others look for before they load a file into torch.
            write_safetensors(file, params, None, {"format": "pt"})
        else:
            from caffe2torch.artefact.pt import write_state_dict

            write_state_dict(file, params)
