"""The torch lowering on the CPU: as it is, in double precision, exported and traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from caffe2torch.compare import in_float32_range
from caffe2torch.engines import BASELINE, Blobs, Job, register_engine
from caffe2torch.errors import EngineError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from caffe2torch.graph import Array, FloatArray
    from caffe2torch.lower.to_torch import CaffeModule

    Shapes = tuple[tuple[int, ...], ...]


@register_engine(BASELINE)
class TorchEngine:
    """The module that ``caffe2torch.load`` gives. Each run is a first pass of it."""

    def __init__(self, job: Job) -> None:
        from caffe2torch.lower.memory import remembering
        from caffe2torch.lower.to_torch import to_torch

        self.remembers = bool(remembering(job.graph))
        self.module = to_torch(job.graph).eval()
        self.every_blob = job.every_blob

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob of the net, or its outputs."""
        import torch

        module = deepcopy(self.module) if self.remembers else self.module
        with torch.no_grad():
            fed = {name: self.fed(array) for name, array in inputs.items()}
            blobs = shown(module, self.every_blob, fed)
        return {name: self.array(tensor) for name, tensor in blobs.items()}

    def fed(self, array: FloatArray) -> Tensor:
        """An input as the module takes it."""
        import torch

        return torch.from_numpy(array)

    def array(self, tensor: Tensor) -> Array:
        """A blob as it is compared."""
        found: Array = tensor.numpy()
        return found


@register_engine("torch-float64", by_default=False)
class TorchFloat64Engine(TorchEngine):
    """The module in double precision; values that float32 does not have are infinite."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.module.double()

    def fed(self, array: FloatArray) -> Tensor:
        """An input as the module takes it."""
        return super().fed(array).double()

    def array(self, tensor: Tensor) -> Array:
        """A blob as it is compared."""
        return in_float32_range(tensor.numpy())


class _Recorded:
    """What ``record`` makes of the module, anew for each shape of the inputs.

    It is recorded with inputs of zeros, so that what it computes of others does not come from its
    example.
    """

    title: str

    def __init__(self, job: Job) -> None:
        from caffe2torch.lower.to_torch import to_torch

        self.module = to_torch(job.graph).eval()
        self.every_blob = job.every_blob
        self.made: dict[Shapes, Callable[..., Mapping[str, Tensor]]] = {}

    def record(self, shows: Any, example: tuple[Tensor, ...]) -> Callable[..., Any]:
        """The module ``shows`` as torch's tool records it."""
        raise NotImplementedError

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob of the net, or its outputs."""
        import warnings

        import torch

        given = [torch.from_numpy(inputs[name]) for name in self.module.input_names]
        shapes = tuple(tuple(tensor.shape) for tensor in given)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of sizes that become constants, of tools' own age.
            try:
                if shapes not in self.made:
                    example = tuple(torch.zeros_like(tensor) for tensor in given)
                    self.made[shapes] = self.record(self._showing(), example)
                blobs = self.made[shapes](*given)
                # What a program holds as a constant may have come out without its numbers.
                return {name: tensor.numpy() for name, tensor in blobs.items()}
            except Exception as error:  # Of any kind: tools of torch have no common base.
                raise EngineError(
                    f"{self.title} cannot take the net: {first_line(error)}"
                ) from error

    def _showing(self) -> Any:
        """A module that gives a dict."""
        from torch import nn

        module, every_blob = deepcopy(self.module), self.every_blob

        class Shown(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = module

            def forward(self, *given: Tensor) -> dict[str, Tensor]:
                # A result that is an input, or is there twice, is one tensor for torch's tools.
                return {k: t.clone() for k, t in shown(self.net, every_blob, *given).items()}

        return Shown().eval()


@register_engine("torch-export", by_default=False)
class TorchExportEngine(_Recorded):
    """The program that ``torch.export`` makes of the module."""

    title = "torch.export"

    def record(self, shows: Any, example: tuple[Tensor, ...]) -> Callable[..., Any]:
        """The exported program, ready to run."""
        import torch

        program: Callable[..., Any] = torch.export.export(shows, example, strict=True).module()
        return program


@register_engine("torch-trace", by_default=False)
class TorchTraceEngine(_Recorded):
    """What ``torch.jit.trace`` makes of the module."""

    title = "torch.jit.trace"

    def record(self, shows: Any, example: tuple[Tensor, ...]) -> Callable[..., Any]:
        """The traced module."""
        import torch

        trace: Callable[..., Any] = torch.jit.trace
        traced: Callable[..., Any] = trace(shows, example, strict=False, check_trace=False)
        return traced


def shown(module: CaffeModule, every_blob: bool, *inputs: Any) -> dict[str, Tensor]:
    """Every blob of a pass, or the net's outputs."""
    if every_blob:
        return module.blobs(*inputs)
    found = module(*inputs)
    return found if isinstance(found, dict) else {module.output_names[0]: found}
