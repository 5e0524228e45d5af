"""What an artefact records besides the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from caffe2torch.graph import Graph
from caffe2torch.io.checksum import LENGTH
from caffe2torch.version import __version__

FORMAT = "caffe2torch"
FORMAT_VERSION = 2
"""Version 1 stored a SqueezeNet under the names of its model, with a map (``params``) of both."""


def metadata_of(graph: Graph) -> dict[str, Any]:
    """Return the metadata of ``graph``: JSON values, and a checksum that may be pending."""
    output = graph.shapes[graph.blobs[graph.outputs[0]]] if len(graph.outputs) == 1 else ()
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "caffe2torch_version": __version__,
        "source_sha256": graph.source_sha256,
        "name": graph.name,
        "phase": graph.phase,
        "inputs": {i.name: list(i.shape) for i in graph.inputs},
        "outputs": list(graph.outputs),
        "blobs": list(graph.blobs),
        "num_classes": output[1] if len(output) > 1 else None,
        "preprocessing": graph.preprocessing.to_record() if graph.preprocessing else None,
        "definition": graph.definition,
    }


def dumps(metadata: Mapping[str, Any]) -> str:
    """The metadata as text; the same text for the same values. Waits for the checksum."""
    return json.dumps(metadata, sort_keys=True, default=str)


def draft(metadata: Mapping[str, Any]) -> str:
    """A text as long as that of ``dumps``, without waiting for the checksum."""
    return json.dumps(metadata, sort_keys=True, default=lambda _: "0" * LENGTH)
