"""What every layer type has: parameters, shape rule, learned blobs, torch and ONNX form."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import NetError, UnsupportedLayerError
from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.parameters import Parameters
from caffe2torch.io.schema import Message, message_class
from caffe2torch.layers._backward import Backward, GradientSharing, Reads
from caffe2torch.layers._builders import OnnxBuilder, TorchBuilder
from caffe2torch.layers._grid import IDENTITY, Grid


class Role(Enum):
    """What a layer is to the net when it becomes a graph."""

    COMPUTE = "compute"
    INPUT = "input"
    """Its tops are fed by the caller."""
    DATA = "data"
    """Reads a data set: the first top becomes an input, the labels have no source."""
    LOSS = "loss"
    """Training or evaluation only: dropped where its labels come from a data set."""
    SAMPLE = "sample"
    """Draws at random, so that it has no exact conversion: its tops become inputs."""


@dataclass(frozen=True)
class BlobSpec:
    """A learned blob as Caffe sets it up: name, shape and filler.

    ``given`` says that the filler is the author's choice (written in the net, or a default
    that makes the layer meaningful), so that a net without weights may use it.
    ``other_shapes`` are those in which some forks store the same values. ``any_shape`` says
    that the layer does not read the blob: one of another shape in a file counts as 0.
    """

    name: str
    shape: Shape
    filler: Message
    given: bool
    other_shapes: tuple[Shape, ...] = ()
    any_shape: bool = False


class Affine(NamedTuple):
    """y = scale[c] * x + shift[c] for the channels c."""

    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]

    def then(self, other: Affine) -> Affine:
        """Both in one, this first."""
        return Affine(other.scale * self.scale, other.scale * self.shift + other.shift)


@dataclass(frozen=True)
class Layer:
    """Base of all layer types: a frozen dataclass of the resolved parameters.

    A subclass sets ``type`` to Caffe's name, adds its fields, and implements
    ``from_proto``, ``infer_shapes``, ``torch_module`` or ``to_torch`` or both, and
    ``to_onnx``.
    """

    type: ClassVar[str]
    role: ClassVar[Role] = Role.COMPUTE
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)
    """Fewest and most bottoms; None is no limit."""
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    same_bottoms_and_tops: ClassVar[bool] = False
    converts: ClassVar[bool] = True
    """False for a layer that is known only to be left out of a net for inference."""
    fixes_batch: ClassVar[bool] = False
    """The ONNX form is made for the declared size of the first axis only."""
    free_axes: ClassVar[frozenset[int]] = frozenset()
    """Axes of the tops whose size depends on the data, so that none is declared in ONNX."""
    index_bottoms: ClassVar[frozenset[int]] = frozenset()
    """Bottoms that hold indices (labels, words, items of the batch), not measurements."""
    barred_bottoms: ClassVar[frozenset[int]] = frozenset()
    """Bottoms of which Caffe has no gradient: its Backward ends the process if asked for it.

    -1 is the last one.
    """
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset()
    """Bottoms that a net's ``force_backward`` leaves out (Caffe: AllowForceBackward)."""
    whole_backward: ClassVar[bool] = False
    """Whether Caffe's Backward computes all gradients, those nobody asks for by ``lr_mult`` or
    ``propagate_down`` included. ``clip_gradients`` counts them, and a layer before adds them."""
    default_loss_weight: ClassVar[float] = 0
    """The ``loss_weight`` of the first top where none is given: 1 for losses."""
    reads: ClassVar[Reads] = Reads()
    """What Caffe's backward pass reads, see ``backward_reads``."""
    gradient_sharing: ClassVar[GradientSharing] = GradientSharing.FORWARD
    """Of a layer that ``shares_memory``."""
    shares_pixels: ClassVar[bool] = False
    """Each pixel of the top is made from the same one of the bottoms, or those around it."""
    keeps_tops: ClassVar[bool] = False
    """Its tops are memory of its own, which it fills once: what a layer changes in them in
    place is there in the next pass. Its torch module has ``keep(value, top)`` for that."""
    buffers: ClassVar[frozenset[str]] = frozenset()
    """Names of learned arrays that are torch buffers, not parameters."""
    parameters: ClassVar[Parameters | None] = None
    """The parameter message of a layer of a fork, or what the fork adds to one of Caffe's."""

    name: str
    non_finite: bool = field(default=False, kw_only=True, repr=False)
    """Whether a bottom may hold NaN or infinity though the net's inputs and arrays hold none.

    Set with the shapes, see ``keeps_finite``. A form whose comparisons or products treat such
    values otherwise than Caffe's branches on it.
    """

    @property
    def shares_memory(self) -> bool:
        """Whether every top is the memory of the first bottom (Reshape, Flatten, Split)."""
        return False

    @property
    def keeps_signs(self) -> bool:
        """Whether y has the sign of x, but where it is 0, and x gets no gradient or is not above 0.

        What then overwrites x in place does not disturb a layer that reads its sign (ReLU).
        """
        return False

    @property
    def works_in_place(self) -> bool:
        """Whether a top may have its bottom's name.

        That is so where Caffe's CPU code has read a value, and all that it makes from it, before
        it writes in its place: elementwise layers mostly. Others compute something else in
        place than they do beside it, and are refused there.
        """
        return False

    @property
    def remembers(self) -> bool:
        """Whether a pass begins with the state in which the last one ended (LSTM)."""
        return False

    @property
    def learns_in_test(self) -> bool:
        """Whether a forward pass changes its learned arrays in phase TEST too (BatchNorm)."""
        return False

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        """Resolve a LayerParameter: defaults, conflicts. ``proto.phase`` is always set.

        Raises NetError where Caffe's SetUp would abort, UnsupportedLayerError for what has
        no exact conversion.
        """
        return cls(name=proto.name)

    @classmethod
    def role_of(cls, proto: Message) -> Role:
        """What a layer of this type is to the net, where its parameters decide it."""
        return cls.role

    @classmethod
    def sampled_shapes(cls, proto: Message) -> Sequence[Shape] | None:
        """The shapes of the tops of a layer that draws at random, where its parameters say them."""
        return None

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        """The shapes of the tops. Raises NetError where Caffe's Reshape would abort."""
        return [bottoms[0]]

    def grid(self) -> Grid | None:
        """Where the top's pixels lie on the first bottom, both (N, C, H, W).

        None if that is not known. Only alignment by coordinates asks for it, see Crop.
        """
        return IDENTITY if self.works_in_place or self.shares_pixels else None

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        """Whether finite bottoms make finite tops, if no sum or product of numbers overflows.

        False for a logarithm, a root, an exponential, a division by what may be zero.
        """
        return True

    def index_count(self, bottoms: Sequence[Shape]) -> int:
        """How many indices there are for ``index_bottoms``, from 0; 0 if any will do.

        Those of losses are the classes of the first bottom: on ``axis``, or all but its items.
        """
        if not self.index_bottoms:
            return 0
        axis: int | None = getattr(self, "axis", None)
        return math.prod(bottoms[0][1:]) if axis is None else bottoms[0][axis]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        """The learned blobs in Caffe's order, in Caffe's shapes."""
        return ()

    def overwritten_gradients(self, bottoms: Sequence[Shape]) -> Collection[str]:
        """The learned blobs, by name, of whose gradients Caffe keeps those of the last pass alone.

        It adds the gradients of others to those that there are: of the passes before
        (``iter_size``), and of other layers that share the blob.
        """
        return ()

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        """Caffe's blobs as named torch arrays. Arrays not changed are passed on, uncopied."""
        return {s.name: b for s, b in zip(self.blob_specs(bottoms), blobs, strict=True)}

    def export_blobs(
        self, params: Mapping[str, FloatArray], bottoms: Sequence[Shape]
    ) -> Sequence[FloatArray]:
        """The inverse of ``import_blobs``."""
        return [params[s.name].reshape(s.shape) for s in self.blob_specs(bottoms)]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        """The torch.nn module of the layer (``t.nn.ReLU()``); None if there is none.

        Its parameters and buffers have the names of the layer's arrays, if there are any.
        ``bottoms`` are the declared shapes: they fix the number of axes and the sizes of
        the arrays; other sizes may differ at run time. Raises UnsupportedLayerError for
        what has no exact torch form.
        """
        return None

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        """The top, or a sequence with each of several, from ``inputs``.

        The default is the module alone. ``inputs`` are tensors or recorded expressions;
        ``bottoms`` are their declared shapes, which fix the number of axes. Sizes are those
        of the inputs (``x.shape[2:]``).
        """
        return t.module(*inputs)

    def backward_reads(self, in_place: bool) -> Reads:
        """What Caffe's backward pass of the layer reads of its blobs, in place or not.

        The default, all bottoms and no top, is that of a layer whose gradient in Caffe is the
        formula's: where a bottom is overwritten, it is that of the torch form on the new data.
        """
        return self.reads

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        """The gradients of the bottoms by Caffe's own formula, None where not wanted.

        For layers that read tops, or differ from their formula (``Reads.always``). Those of learned
        arrays follow, if there are any.
        """
        raise self.unsupported(
            "Caffe's backward pass would read a top that a later layer has overwritten in place; "
            "give that layer a top of its own",
            "top",
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        """Append the layer's ONNX nodes and return the names of the tops' values."""
        raise self.unsupported("it has no ONNX form")

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        """What the layer does to each channel (axis 1) in phase TEST, if that is affine."""
        return None

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        """Multiply-add operations of one forward pass; 0 for layers without a product."""
        return 0

    def net_error(self, message: str, field: str | None = None) -> NetError:
        """An error for a net that Caffe would refuse; raise what this returns."""
        return NetError(message, layer=self.name, type=self.type, field=field)

    def unsupported(self, message: str, field: str | None = None) -> UnsupportedLayerError:
        """An error for what cannot be converted exactly; raise what this returns."""
        return UnsupportedLayerError(message, layer=self.name, type=self.type, field=field)


def net_error(proto: Message, message: str, field: str | None = None) -> NetError:
    """``Layer.net_error`` for use inside ``from_proto``."""
    near = getattr(proto, "place", "")  # V0's message has none.
    return NetError(message, layer=proto.name, type=proto.type, field=field, near=near)


def unsupported(proto: Message, message: str, field: str | None = None) -> UnsupportedLayerError:
    """``Layer.unsupported`` for use inside ``from_proto``."""
    return UnsupportedLayerError(
        message, layer=proto.name, type=proto.type, field=field, near=proto.place
    )


def canonical_axis(layer: Layer, axis: int, num_axes: int, field: str = "axis") -> int:
    """Caffe's CanonicalAxisIndex: a negative axis counts from the end.

    Raises NetError if ``axis`` is not in [-num_axes, num_axes).
    """
    if not -num_axes <= axis < num_axes:
        raise layer.net_error(f"axis {axis} is out of range for a blob of {num_axes} axes", field)
    return axis % num_axes if num_axes else 0


def constant_filler(value: float) -> Message:
    """A FillerParameter of type constant."""
    return message_class("FillerParameter")(type="constant", value=value)


def axis_or_legacy_dim(proto: Message, param: str, legacy: str) -> tuple[int, str]:
    """The axis and the full name of the field that gives it: ``axis`` or the old ``legacy``."""
    message = getattr(proto, param)
    if not message.HasField(legacy):
        return message.axis, f"{param}.axis"
    if message.HasField("axis"):
        raise net_error(proto, f"both axis and {legacy} are given; keep only axis", param)
    return getattr(message, legacy), f"{param}.{legacy}"


def refuse_in_place(proto: Message) -> None:
    """Raise NetError if a top of the layer has the name of its first bottom."""
    if proto.bottom and proto.bottom[0] in proto.top:
        raise net_error(
            proto,
            f"it does not allow in-place computation: {proto.bottom[0]!r} is both its bottom "
            "and its top; give the top another name",
        )
