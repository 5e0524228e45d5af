"""The .py form: readable source, and beside it the weights that it loads."""

from __future__ import annotations

import warnings
from pathlib import Path

from caffe2torch.artefact.pt import write_pt
from caffe2torch.artefact.write import PathLike, contents_of, register_writer
from caffe2torch.errors import Caffe2TorchWarning
from caffe2torch.graph import Graph
from caffe2torch.io.arrays import Progress
from caffe2torch.io.atomic import atomic_group


@register_writer(".py")
def write_source(
    path: PathLike, graph: Graph, *, half: bool, durable: bool, progress: Progress
) -> None:
    """Write ``net.py`` and ``net.weights.pt``, together or not at all.

    The weights file is a ``.pt`` artefact whose state_dict has the graph's own keys; with
    ``half`` it is of float16, which the source widens when it loads it. A net of phase TRAIN
    warns of layers of which the source has another gradient than Caffe.

    Raises UnsupportedLayerError for a layer without a source form.
    """
    from caffe2torch.lower.to_source import WEIGHTS_SUFFIX, to_source

    text = to_source(graph)
    if graph.phase == "TRAIN":
        _warn_of_gradients(graph)
    params, metadata = contents_of(graph, half=half, bare=False)
    with atomic_group(durable) as group:
        weights = group.open(Path(path).with_suffix(WEIGHTS_SUFFIX))
        write_pt(weights, params, metadata, progress)
        group.open(path).write(text.encode())


def _warn_of_gradients(graph: Graph) -> None:
    from caffe2torch.lower.overwritten import lost_gradients, rereads

    lost = lost_gradients(graph)
    places = sorted({*rereads(graph, lost), *lost})
    names = ", ".join(repr(graph.nodes[place].layer.name) for place in places)
    if names:
        warnings.warn(
            f"the source has the gradient of the formula for {names}, where Caffe's backward pass "
            "finds overwritten data, divides by 0 or loses a gradient (docs/modules.md, "
            "Gradients). To train as Caffe does, take a .pt, or caffe2torch train.",
            Caffe2TorchWarning,
            stacklevel=3,
        )
