"""What the passes work on: a net on its way to a Graph, and what the caller said about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.blob import Blob
from caffe2torch.io.origin import Origin
from caffe2torch.io.schema import Message
from caffe2torch.layers._base import BlobSpec, Layer
from caffe2torch.preprocessing import Preprocessing

MAX_COUNT = 2**31 - 1
"""Caffe counts a blob's elements in an int and aborts above this."""
Slot = tuple[int, int]
"""A learned blob's place: index of its layer in ``Draft.nodes``, index of the blob there."""


@dataclass(frozen=True)
class State:
    """Which layers of a file are in the net (Caffe: NetState). ``phase`` is TEST or TRAIN."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()


TEST = State()
"""That of a net for inference."""


CROP_RULES = ("bvlc", "fork")
"""Offset 0, as in BVLC's Caffe; alignment by coordinates, as in the forks of FCN and HED."""


@dataclass(frozen=True)
class Options:
    """How a net is built.

    ``allow_missing`` lets a layer without weights keep its filler's values; ``strict`` refuses
    weights that no layer uses. ``input_shapes``, by input blob, replace the declared ones.
    ``of_weights`` says that the net is a weights file's own, which a running Caffe has filtered.
    ``outputs`` are the blobs up to which the net is built, all that it ends in if there are none.
    ``crop`` is whose rule holds for a Crop without crop_param, see CROP_RULES. ``seed`` is that
    of the random fillers: the same file, the same net. ``runs`` says that the net is to run as it
    stands, with the data of its own layers: errors do not offer to feed a blob.
    """

    allow_missing: bool = False
    strict: bool = False
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    of_weights: bool = False
    outputs: tuple[str, ...] = ()
    crop: str = "bvlc"
    seed: int = 0
    runs: bool = False


DEFAULTS = Options()


@dataclass(frozen=True)
class BlobSource:
    """The learned blobs that a weights file offers, by layer name and in file order.

    A layer name may occur again, and Caffe lets the last win. ``path`` is for messages.
    ``given`` says that there is a weights file at all.
    """

    path: str = ""
    entries: Sequence[tuple[str, Sequence[Blob]]] = ()
    given: bool = False


@dataclass
class DraftNode:
    """A layer with the values it reads and writes.

    ``specs`` are its learned blobs, known with the shapes; ``owners`` are the slots that hold
    their values, which may be those of a layer before it (``param { name }``).
    """

    proto: Message
    layer: Layer
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    specs: Sequence[BlobSpec] = ()
    owners: Sequence[Slot] = ()


@dataclass
class Draft:
    """A net on its way to a Graph. It belongs to one run of the passes, which change it.

    ``weights`` is None for a graph whose arrays have shapes only. ``sources`` are the layers
    that feed the net, ``nodes`` the others; ``blobs`` maps a blob to its last value. ``excluded``
    are the layers that are not in the net's state, ``left_out`` the names of those that the
    outputs or inference do not need, ``unfed`` the tops of sources that nothing needs.
    """

    net: Message
    weights: BlobSource | None = None
    state: State = TEST
    options: Options = DEFAULTS
    origin: Origin | None = None
    excluded: list[Message] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    unfed: frozenset[str] = frozenset()
    sources: list[DraftNode] = field(default_factory=list)
    nodes: list[DraftNode] = field(default_factory=list)
    blobs: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    shapes: dict[str, Shape] = field(default_factory=dict)
    values: dict[Slot, FloatArray] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


Pass = Callable[[Draft], None]
"""A pass changes a draft in place. It raises a Caffe2TorchError for a net that cannot be."""
