"""What ``Net.getLayer`` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caffe2torch.opencv.errors import OpenCVError

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray
    from caffe2torch.opencv.names import Entry
    from caffe2torch.opencv.net import Net


class Layer:
    """A layer of a net, with the attributes of ``cv2.dnn.Layer`` that programs use.

    ``inputs`` are the net's inputs where the layer stands for them.
    """

    def __init__(
        self,
        name: str,
        type: str,
        inputs: Sequence[str] = (),
        net: Net | None = None,
        entry: Entry | None = None,
    ) -> None:
        self.name, self.type = name, type
        self.preferableTarget = 0
        self._inputs, self._net, self._entry = list(inputs), net, entry

    @property
    def blobs(self) -> tuple[FloatArray, ...]:
        """The learned blobs in Caffe's shapes; setting them changes the net."""
        if self._net is None or self._entry is None:
            return ()
        return tuple(self._net.learned_blobs(self._entry))

    @blobs.setter
    def blobs(self, blobs: Sequence[Any]) -> None:
        if self._net is None or self._entry is None:
            raise OpenCVError("the input layer has no learned blobs.")
        self._net.replace_blobs(self._entry, blobs)

    def outputNameToIndex(self, outputName: str) -> int:
        """The index of an input of the net in layer 0 (-1: it has none); else 0."""
        if self._net is not None:
            return 0
        return self._inputs.index(outputName) if outputName in self._inputs else -1
