"""A layer's learned blobs, in Caffe's shapes, and the arrays of its torch module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caffe2torch.graph import FloatArray, Node, Shape
from caffe2torch.pycaffe.blob import CPU, Blob, BlobVec, Memory
from caffe2torch.training.backward import statistics_of


class Learned:
    """The learned blobs of one layer, and the arrays that its module computes with.

    Where torch's array is the blob in another shape, both are the same memory. Others are
    converted before the layer runs, and statistics back after it has (BatchNorm). The layer reads
    as many numbers as it had asked for, whatever shape a program gives a blob later, as Caffe's.
    """

    def __init__(
        self,
        node: Node,
        module: nn.Module,
        bottoms: Sequence[Shape],
        shared: dict[str, Blob],
    ) -> None:
        self.layer, self.module, self.bottoms = node.layer, module, bottoms
        self.names = tuple(node.params)
        self.specs = node.layer.blob_specs(bottoms)
        self.blobs = BlobVec()
        arrays = {name: getattr(module, name).detach().numpy() for name in self.names}
        blobs = node.layer.export_blobs(arrays, bottoms) if arrays else ()
        for index, (spec, values) in enumerate(zip(self.specs, blobs, strict=False)):
            name = node.proto.param[index].name if index < len(node.proto.param) else ""
            owner = shared.get(name) if name else None
            if owner is None:
                blob = Blob._of(spec.shape, Memory.of(np.require(values, requirements=["C", "W"])))
                if name:
                    shared[name] = blob
            else:
                blob = Blob._of(spec.shape, owner._data, owner._diff)
            self.blobs.append(blob)
        self.statistics = statistics_of(node, bottoms)
        self._bound: list[tuple[Tensor | None, int]] = []
        self._device = CPU
        self._is_alias = False
        self._seen: list[tuple[int, int]] = []

    def _versions(self) -> list[tuple[int, int]]:
        """Tells whether the module has changed an array, or has another."""
        tensors = [getattr(self.module, name) for name in self.names]
        return [(id(tensor), tensor._version) for tensor in tensors]

    def bind(self, device: torch.device) -> None:
        """Have the module compute with the present values of the blobs."""
        memories = [blob._data for blob in self.blobs]
        # On a GPU are copies, which hold until a program or a solver has changed the blobs.
        state = [(m._tensor, 0 if self._is_alias else m.changes) for m in memories]
        is_known = self._is_alias or (device != CPU and not any(m.is_held for m in memories))
        if is_known and device == self._device and _same(state, self._bound):
            return
        values = [
            blob._data.view(spec.shape).numpy()
            for spec, blob in zip(self.specs, self.blobs, strict=True)
        ]
        arrays = self.layer.import_blobs(values, self.bottoms)
        self._is_alias = device == CPU
        for name in self.names:
            array = arrays[name]
            self._is_alias &= any(np.may_share_memory(array, own) for own in values)
            own = getattr(self.module, name)
            # A shared array may have another shape in each of its layers.
            own.data = torch.from_numpy(array).to(device).view(array.shape)
        self._device = device
        self._bound = [(m.tensor, 0 if self._is_alias else m.changes) for m in memories]
        self._seen = self._versions()

    def unbind(self) -> None:
        """Take over the statistics that the module has changed."""
        # Conversion there and back would round those that the module leaves as they are.
        if not self.statistics or (versions := self._versions()) == self._seen:
            return
        self._seen = versions
        arrays = {name: getattr(self.module, name).detach().cpu().numpy() for name in self.names}
        values = self.layer.export_blobs(arrays, self.bottoms)
        for index in self.statistics:
            shape = self.specs[index].shape
            np.copyto(self.blobs[index]._data.array(shape), values[index].reshape(shape))

    def parameters(self, wanted: Iterable[bool]) -> list[tuple[str, nn.Parameter]]:
        """Those of torch's arrays of which a gradient is asked for, by blob, is ``wanted``."""
        asked = {spec.name for spec, is_wanted in zip(self.specs, wanted, strict=True) if is_wanted}
        own = self.module.named_parameters(recurse=False)
        return [(name, p) for name, p in own if name in asked]

    def add(self, gradients: Mapping[str, Tensor], bottoms: Sequence[Shape]) -> None:
        """Add gradients of torch's arrays, by name, to the diffs of the blobs.

        Those that Caffe overwrites for ``bottoms`` of these shapes take their place.
        """
        overwritten = self.layer.overwritten_gradients(bottoms)
        arrays: dict[str, FloatArray] = {
            name: getattr(self.module, name).detach().cpu().numpy() for name in self.names
        }
        arrays |= {name: gradient.cpu().numpy() for name, gradient in gradients.items()}
        values = self.layer.export_blobs(arrays, self.bottoms)
        for spec, blob, value in zip(self.specs, self.blobs, values, strict=True):
            if spec.name in gradients:
                diff = blob._diff.view(spec.shape)
                if spec.name in overwritten:
                    diff.zero_()
                diff += torch.from_numpy(np.ascontiguousarray(value)).view(spec.shape)


def _same(a: Sequence[tuple[Tensor | None, int]], b: Sequence[tuple[Tensor | None, int]]) -> bool:
    pairs = zip(a, b, strict=True)
    return bool(b) and all(x is y and changes == known for (x, changes), (y, known) in pairs)
