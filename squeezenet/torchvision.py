"""SqueezeNet v1.1 under the names that torchvision's squeezenet1_1 gives its arrays."""

from __future__ import annotations

import warnings

from caffe2torch.errors import ArtefactError, Caffe2TorchWarning
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.rewrites.fold_input import INPUTS
from squeezenet.recognise import recognise

BLOCKS = {
    "conv1": "features.0",
    "fire2": "features.3",
    "fire3": "features.4",
    "fire4": "features.6",
    "fire5": "features.7",
    "fire6": "features.9",
    "fire7": "features.10",
    "fire8": "features.11",
    "fire9": "features.12",
    "conv10": "classifier.1",
}
"""torchvision counts ReLUs, poolings and the dropout too."""

PARTS = {"squeeze1x1": "squeeze", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}


def torchvision_state(graph: Graph) -> dict[str, FloatArray]:
    """The arrays of ``graph`` by the keys of torchvision's ``squeezenet1_1`` state_dict.

    Warns where the net does not take the input that torchvision makes. Raises ArtefactError
    for any other net: torchvision's v1.0 lacks the padding of Caffe's conv10, and it has no
    bypass.
    """
    spec = recognise(graph)
    if spec is None:
        raise _refusal(f"{graph.name!r} is not a SqueezeNet")
    if spec.version != "1.1":
        raise _refusal(
            f"this is SqueezeNet {spec.version}, whose conv10 is padded by 1 in Caffe and not in "
            "torchvision's, so that its logits would differ"
        )
    if spec.bypass is not None:
        raise _refusal(f"torchvision's has no {spec.bypass} bypass")
    made, wanted = graph.preprocessing, INPUTS["imagenet"]
    if made is None or (made.channel_order, made.std) != (wanted.channel_order, wanted.std):
        warnings.warn(
            "the layout torchvision cannot say that this net takes its own input (blue first, "
            "from 0 to 255, the mean subtracted). For torchvision's own preprocessing add "
            "--input imagenet.",
            Caffe2TorchWarning,
            stacklevel=4,
        )
    return {_key(spec.params[key]): array for key, array in graph.params.items()}


def _key(own: str) -> str:
    """``fire2.squeeze1x1.weight`` -> ``features.3.squeeze.weight``."""
    block, *part, kind = own.split(".")
    return ".".join([BLOCKS[block], *(PARTS[name] for name in part), kind])


def _refusal(cause: str) -> ArtefactError:
    return ArtefactError(
        f"the layout torchvision is that of its squeezenet1_1, but {cause}. Convert without "
        "--layout."
    )
