"""Faults of other engines that parity knows: named in every report, and failing no net.

One line a fault: it holds for a layer type and a condition on the layer, so that any other
difference of the same engine still fails. A line says what the engine computes instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from caffe2torch.graph import Node


@dataclass(frozen=True)
class KnownFault:
    """What ``engine`` gets wrong in layers of ``type`` for which ``when`` holds."""

    engine: str
    type: str
    when: Callable[[Node], bool]
    reason: str


def _has_broken_sizes(node: Node) -> bool:
    param = node.proto.prior_box_param
    return any(size != int(size) for size in (*param.min_size, *param.max_size))


def _has_other_k(node: Node) -> bool:
    param = node.proto.lrn_param
    return bool(param.norm_region == param.ACROSS_CHANNELS and param.k != 1)


KNOWN_FAULTS = (
    KnownFault(
        "opencv",
        "Axpy",
        lambda node: True,
        "OpenCV 4 adds the wrong bottoms of Axpy",
    ),
    KnownFault(
        "opencv",
        "LRN",
        _has_other_k,
        "OpenCV ignores lrn_param.k and takes 1",
    ),
    KnownFault(
        "opencv",
        "PriorBox",
        _has_broken_sizes,
        "OpenCV keeps the fraction of min_size and max_size, which Caffe cuts off",
    ),
    KnownFault(
        "opencv",
        "PriorBox",
        lambda node: not node.proto.prior_box_param.HasField("clip"),
        "OpenCV clips boxes where prior_box_param.clip is not given, Caffe does not",
    ),
)


def known_fault(engine: str, nodes: Iterable[Node]) -> str | None:
    """Why ``engine`` is known to get one of ``nodes`` wrong; None if it is not."""
    found = (
        f"{fault.reason} (layer {node.layer.name!r})"
        for node in nodes
        for fault in KNOWN_FAULTS
        if (fault.engine, fault.type) == (engine, node.layer.type) and fault.when(node)
    )
    return next(found, None)
