"""The layers of a running net: each reads and writes blobs, forward and backward (layer.hpp)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from caffe2torch.data import Source
from caffe2torch.errors import first_line
from caffe2torch.graph import Node
from caffe2torch.io.schema import Message
from caffe2torch.layers import Backward, GradientSharing
from caffe2torch.lower.eager import EagerTorch, function_of
from caffe2torch.lower.overwritten import gradients
from caffe2torch.pycaffe import mode
from caffe2torch.pycaffe.blob import CPU, Blob, BlobVec, BoolVec
from caffe2torch.pycaffe.layer import Host
from caffe2torch.pycaffe.learned import Learned
from caffe2torch.training.backward import Needs, check_gradients

_WITHOUT_GRADIENT = frozenset({"PriorBox", "PriorBoxClustered", "Silence"})
"""Layers whose Backward in Caffe leaves no gradient, where that of others aborts."""


class Step:
    """One layer of a net that runs. This one does nothing, as Input.

    ``needs`` says what backward computes, ``weights`` are the tops' weights in the loss; Net sets
    them.
    """

    def __init__(self, proto: Message, bottoms: Sequence[Blob], tops: Sequence[Blob]) -> None:
        self.proto = proto
        self.name, self.type = str(proto.name), str(proto.type)
        self.bottoms, self.tops = BlobVec(bottoms), BlobVec(tops)
        self.blobs = BlobVec()
        self.weights: list[float] = [0.0] * len(tops)
        self.needs = Needs(False, (False,) * len(bottoms), ())
        self.node: Node | None = None
        self.statistics: frozenset[int] = frozenset()
        """Learned blobs that no gradient reaches."""

    def prepare(self) -> None:
        """Get ready for forward and backward, now that it is known which diffs are wanted."""

    def moved(self) -> None:
        """Take note that the module is on another device."""

    def reshape(self) -> None:
        """Give the tops the shapes that follow from the bottoms'."""

    def forward(self) -> None:
        """Compute the tops."""

    def backward(self) -> None:
        """Compute the bottoms' diffs, and add to those of the learned blobs."""

    def loss(self) -> float:
        """What the tops count into the loss (Caffe: Layer::Forward)."""
        total = 0.0
        for top, weight in zip(self.tops, self.weights, strict=True):
            if weight:
                data, diff = top._data.view(top._shape), top._diff.view(top._shape)
                total += float(torch.dot(data.reshape(-1), diff.reshape(-1)))
        return total


class DataStep(Step):
    """A data layer: the next batch of its source at each pass."""

    def __init__(self, proto: Message, tops: Sequence[Blob], source: Source) -> None:
        super().__init__(proto, (), tops)
        self.feed(source)
        fillers = [f.type == "constant" for f in proto.dummy_data_param.data_filler] or [True]
        is_dummy = self.type == "DummyData"
        self.fixed = [is_dummy and fillers[i % len(fillers)] for i in range(len(tops))]
        """Tops that are filled once, which a program may write to (dummy_data_layer.cpp)."""
        if is_dummy:
            for top, value in zip(tops, source.batch(0), strict=True):
                top._put(value.clone())

    def feed(self, source: Source) -> None:
        """Go on with the first batch of a source."""
        self.source, self.index = source, 0
        self._finish = source.finisher(CPU)

    def forward(self) -> None:
        batch = self._finish(self.source.raw(self.index))
        self.index += 1
        for top, value, is_fixed in zip(self.tops, batch, self.fixed, strict=True):
            if not is_fixed:
                top._put(value)


class SharedStep(Step):
    """A layer whose tops are the memory of its bottom (Split, Reshape, Flatten, ...)."""

    def __init__(
        self, proto: Message, node: Node, bottoms: Sequence[Blob], tops: Sequence[Blob]
    ) -> None:
        super().__init__(proto, bottoms, tops)
        self.layer = node.layer
        for top in tops:
            top._data = bottoms[0]._data
        self.forward()

    def reshape(self) -> None:
        for top, shape in zip(
            self.tops, self.layer.infer_shapes([self.bottoms[0]._shape]), strict=True
        ):
            top._resize(shape)

    def forward(self) -> None:
        if self.layer.gradient_sharing is GradientSharing.FORWARD:
            self.tops[0]._diff = self.bottoms[0]._diff
        self.reshape()

    def backward(self) -> None:
        sharing = self.layer.gradient_sharing
        if sharing is GradientSharing.BACKWARD:
            self.bottoms[0]._diff = self.tops[0]._diff
        elif sharing is GradientSharing.BY_SUM and self.needs.propagate[0]:
            first, *others = [top._diff.view(top._shape, mode.device()) for top in self.tops]
            total = first.clone()
            for diff in others:
                total += diff
            self.bottoms[0]._diff.put(total)


class KeptStep(Step):
    """A Parameter or a constant DummyData: its tops are memory of its own, filled once."""

    def __init__(
        self, proto: Message, tops: Sequence[Blob], module: nn.Module, learned: Learned | None
    ) -> None:
        super().__init__(proto, (), tops)
        if learned is not None:
            self.blobs = learned.blobs
            for top, blob in zip(tops, self.blobs, strict=True):
                top._data = blob._data
            self.forward()
        else:
            for top, value in zip(tops, _as_list(module()), strict=True):
                top._put(value.contiguous().clone())

    def forward(self) -> None:
        for top, blob in zip(self.tops, self.blobs, strict=False):  # A constant has no blob.
            top._diff = blob._diff


class TorchStep(Step):
    """A layer that runs its torch form, and autograd's derivative of that."""

    def __init__(
        self,
        proto: Message,
        node: Node,
        module: nn.Module,
        bottoms: Sequence[Blob],
        tops: Sequence[Blob],
        learned: Learned | None,
    ) -> None:
        super().__init__(proto, bottoms, tops)
        self.layer, self.module, self.learned = node.layer, module, learned
        self.declared = [blob._shape for blob in bottoms]
        self.shapes = list(self.declared)
        self.function = function_of(node.layer, module, self.declared)
        if learned is not None:
            self.blobs, self.statistics = learned.blobs, frozenset(learned.statistics)
        self.in_place = [
            i < len(tops) and blob._data is tops[i]._data for i, blob in enumerate(bottoms)
        ]
        self.moved()
        self.parameters: list[tuple[str, nn.Parameter]] = []
        self.record: tuple[list[Tensor], list[Tensor]] | None = None
        self.changes: list[int] = []
        """Of the bottoms' and tops' memory, when the forward pass had ended."""

    def moved(self) -> None:
        self.own = [*self.module.parameters(), *self.module.buffers()]

    def prepare(self) -> None:
        if self.learned is not None:
            wanted = [learns and self.needs.layer for learns in self.needs.learns]
            self.parameters = self.learned.parameters(wanted)
            for _, parameter in self.parameters:
                parameter.requires_grad_()

    def reshape(self) -> None:
        layer, shapes = self.layer, [blob._shape for blob in self.bottoms]
        tops = layer.infer_shapes(shapes)
        own = [] if self.learned is None else self.learned.specs
        for spec, known in zip(layer.blob_specs(shapes), own, strict=True):
            if spec.shape != known.shape:
                raise layer.net_error(
                    f"bottoms of shapes {shapes} need a {spec.name} of shape {spec.shape}; it "
                    f"has {known.shape}, for the shapes {self.declared}"
                )
        for top, shape in zip(self.tops, tops, strict=True):
            top._resize(tuple(shape))
        self.shapes = shapes

    def forward(self) -> None:
        if any(b._shape != s for b, s in zip(self.bottoms, self.shapes, strict=True)):
            self.reshape()
        outputs = self._run()
        taken = self._storages()
        for top, value in zip(self.tops, outputs, strict=True):
            top._put(_own(value, taken))
        self._note_changes()

    def _run(self) -> list[Tensor]:
        """The tops' values; with a record for backward where that will ask for one."""
        self.record = None
        device = mode.device()
        if self.learned is not None:
            self.learned.bind(device)
        leaves = [blob._data.view(blob._shape, device) for blob in self.bottoms]
        try:
            if self.needs.layer:
                outputs = self._recorded(leaves)
            else:
                with torch.no_grad():
                    outputs = _as_list(self.function(*leaves))
        except (RuntimeError, ValueError, IndexError) as error:
            self.reshape()  # Says why, where Caffe would not take bottoms of these shapes either.
            raise self.layer.net_error(first_line(error)) from error
        if self.learned is not None:
            self.learned.unbind()
        return outputs

    def _recorded(self, leaves: list[Tensor]) -> list[Tensor]:
        for i, is_wanted in enumerate(self.needs.propagate):
            if self.in_place[i] and self.bottoms[i]._data.is_held:
                leaves[i] = leaves[i].clone()  # What backward reads of it is overwritten.
            leaves[i].requires_grad_(is_wanted)
        with torch.enable_grad():
            outputs = _as_list(self.function(*leaves))
        self.record = leaves, outputs
        return outputs

    def backward(self) -> None:
        assert self.node is not None
        check_gradients(self.node, self.needs)
        if self.record is None:
            self._run()
            self._note_changes()
        assert self.record is not None
        leaves, outputs = self.record
        device = mode.device()
        if self._reads_anew(leaves, outputs):
            self._put(leaves, self._from_memory(leaves))
            return
        tops = [
            (value, top._diff.view(tuple(value.shape), device))
            for value, top in zip(outputs, self.tops, strict=True)
            if value.requires_grad
        ]
        wanted = [x for x in leaves if x.requires_grad]
        parameters = [parameter for _, parameter in self.parameters]
        if not wanted and not parameters:
            return
        found: Sequence[Tensor | None]
        if tops:
            found = torch.autograd.grad(
                [value for value, _ in tops],
                [*wanted, *parameters],
                [diff for _, diff in tops],
                retain_graph=True,
                allow_unused=True,
            )
        elif self.tops and self.type not in _WITHOUT_GRADIENT:
            raise self.layer.unsupported("Caffe has no gradient of it", "propagate_down")
        else:
            found = (None,) * (len(wanted) + len(parameters))
        self._put(leaves, found)

    def _put(self, leaves: Sequence[Tensor], found: Sequence[Tensor | None]) -> None:
        """Take the gradients of the bottoms that have one, and of the learned blobs that learn."""
        taken = {_storage(top._diff.tensor) for top in self.tops}
        made = iter(found)
        for blob, x in zip(self.bottoms, leaves, strict=True):
            if x.requires_grad:
                gradient = next(made)
                blob._diff.put(torch.zeros_like(x) if gradient is None else _own(gradient, taken))
        if self.learned is not None:
            named = zip((name for name, _ in self.parameters), made, strict=True)
            made_now = {name: gradient for name, gradient in named if gradient is not None}
            self.learned.add(made_now, self.shapes)

    def _note_changes(self) -> None:
        self.changes = [blob._data.changes for blob in (*self.bottoms, *self.tops)]

    def _reads_anew(self, leaves: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
        """Whether Caffe's backward pass finds something else than the forward pass has seen."""
        in_place = self.in_place[:1] == [True]
        reads = self.layer.backward_reads(in_place)
        seen = list(zip(self.bottoms, leaves, self.changes, strict=False))[reads.bottoms]
        changes = self.changes[len(leaves) :]
        seen += list(zip(self.tops, outputs, changes, strict=True))[reads.tops]
        return reads.always or any(
            (blob._data.changes != count or (in_place and blob is self.bottoms[0]))
            and not _is_same(blob._data.view(tuple(value.shape), value.device), value.data)
            for blob, value, count in seen
        )

    def _from_memory(self, leaves: Sequence[Tensor]) -> list[Tensor | None]:
        """The gradients of bottoms and learned blobs, by what the blobs hold now."""
        device = mode.device()
        learned = [parameter for _, parameter in self.parameters]
        found = Backward(
            diffs=[top._diff.view(top._shape, device) for top in self.tops],
            bottoms=[blob._data.view(blob._shape, device) for blob in self.bottoms],
            tops=[top._data.view(top._shape, device) for top in self.tops],
            given=[x.detach() for x in leaves],
            wanted=[x.requires_grad for x in leaves],
            in_place=self.in_place[:1] == [True],
        )
        t, learns = EagerTorch(self.module), [True] * len(learned)
        made = gradients(self.layer, self.function, t, found, learned, learns)
        flags = [*found.wanted, *learns]
        return [gradient for gradient, wanted in zip(made, flags, strict=True) if wanted]

    def _storages(self) -> set[int]:
        """The memory that belongs to others, so that no top may become it."""
        taken = {_storage(blob._data.tensor) for blob in self.bottoms}
        return taken | {_storage(tensor) for tensor in self.own}


class PythonStep(Step):
    """A layer that a user's class computes."""

    def __init__(self, proto: Message, host: Host, bottoms: Sequence[Blob]) -> None:
        super().__init__(proto, bottoms, host.tops)
        self.instance, self.blobs = host.instance, host.instance.blobs

    def reshape(self) -> None:
        self.instance.reshape(self.bottoms, self.tops)

    def forward(self) -> None:
        self.reshape()
        self.instance.forward(self.bottoms, self.tops)

    def backward(self) -> None:
        self.instance.backward(self.tops, BoolVec(self.needs.propagate), self.bottoms)


def _as_list(result: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _is_same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _own(value: Tensor, taken: set[int]) -> Tensor:
    """``value`` in memory of its own; ``taken`` is all that is not, and this afterwards."""
    value = value.data.float().contiguous()
    if _storage(value) in taken:
        value = value.clone()
    taken.add(_storage(value))
    return value
