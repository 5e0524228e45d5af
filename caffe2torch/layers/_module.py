"""The torch module of a layer that has no ready-made one. Imported only to lower to torch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from caffe2torch.layers._base import Layer


class LayerModule(nn.Module):
    """Runs ``layer.forward`` on its inputs and on the arrays registered in this module."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
        """Inputs and outputs are those of the Caffe layer, in its order."""
        params = {
            name: array
            for table in (self._parameters, self._buffers)
            for name, array in table.items()
            if array is not None
        }
        return self.layer.forward(inputs, params, self.training)

    def extra_repr(self) -> str:
        """The layer's resolved parameters."""
        return repr(self.layer)
