"""The .py form: readable source, and beside it the weights that it loads."""

from __future__ import annotations

import os
from pathlib import Path

from caffe2torch.artefact.metadata import metadata_of
from caffe2torch.artefact.pt import write_pt
from caffe2torch.graph import Graph
from caffe2torch.io.atomic import atomic_group


def write_source(path: str | os.PathLike[str], graph: Graph) -> None:
    """Write ``net.py`` and ``net.weights.pt``, together or not at all.

    The weights file is a ``.pt`` artefact whose state_dict has the graph's own keys.
    Raises UnsupportedLayerError for a layer without a source form.
    """
    from caffe2torch.lower.to_source import WEIGHTS_SUFFIX, to_source

    text = to_source(graph)
    with atomic_group() as group:
        write_pt(
            group.open(Path(path).with_suffix(WEIGHTS_SUFFIX)), graph.params, metadata_of(graph)
        )
        group.open(path).write(text.encode())
