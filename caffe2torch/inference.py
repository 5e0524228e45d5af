"""Make a converted module fast for inference, and check that it still computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, cast

from caffe2torch.compare import BlobDifference, may_overflow
from caffe2torch.errors import ParityError
from caffe2torch.graph import Graph
from caffe2torch.rewrites.fuse import fuse

if TYPE_CHECKING:
    import torch
    from torch import nn

    from caffe2torch.lower.to_torch import CaffeModule


NUDGE = 2.0**-20
"""How far the inputs are moved where the modules differ: by some float32 roundings."""
ROUNDING = 40.0
"""The modules may be as many times as far apart as that moves the plain one: it is chaotic."""


def optimize(module: CaffeModule, *, compile: bool = False) -> nn.Module:
    """Return a module for inference that computes what ``module`` does, faster.

    BatchNorm, Scale and Bias are folded into the convolution or inner product before them
    and Dropout is removed. Convolutions then run on channels-last blobs, with their ReLU in
    place; on the CPU only where that is safe (``caffe2torch.lower.fast`` says where), so
    that it is right for every size of input that ``module`` takes. ``module`` is not changed and
    stays trainable. After each rewrite both are run on seeded random input; a net that runs
    neither on that nor on zeros (an index computed from them is out of range) is not checked, nor
    is one whose values come near float32's largest.

    Args:
        module: what ``load`` returns, of phase TEST, on any device.
        compile: return ``torch.compile`` of the fused module instead, which takes a minute and
            needs a C++ compiler at its first call.

    Raises:
        NetError: the net is of phase TRAIN.
        ParityError: a blob differs by more than 1e-4 of its peak, as when a layer of
            ``module`` was replaced by hand.
    """
    import torch

    from caffe2torch.lower.fast import FastModule
    from caffe2torch.lower.to_torch import graph_with_weights, to_torch

    if isinstance(module, FastModule):
        return module
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.inference_mode(False):  # Arrays made in it could not be changed outside of it.
        whole = graph_with_weights(module)
        graph = fuse(whole)
        fused = to_torch(graph).to(device).eval()
        fast = FastModule(graph).to(device)
    if is_stateful(graph):  # Passes change it: the check runs copies, which begin anew.
        module = to_torch(whole).to(device).eval()
    _check(module, fused, device)
    if compile:
        return cast("nn.Module", torch.compile(fused.requires_grad_(False)))
    _check(fused, fast, device)
    if fast.splits_batches:
        with fast.parts_of(1):
            _check(fused, fast, device, items=3)
    return fast


def _check(before: CaffeModule, after: CaffeModule, device: torch.device, items: int = 0) -> None:
    """Raise ParityError if the modules differ in a blob that both show, or in an output.

    ``items`` is a batch size to use in place of the declared one. Blobs are left out whose
    size depends on which candidates pass a threshold.
    """
    import torch

    graph = before.caffe_graph
    rng = torch.Generator().manual_seed(0)
    normal, zeros = {}, {}
    for declared in graph.inputs:
        shape = (items, *declared.shape[1:]) if items else declared.shape
        zeros[declared.name] = torch.zeros(shape, device=device)
        # Unit normal, not pixels: a softmax of large logits enlarges rounding errors.
        array = torch.randn(shape, generator=rng).to(device)
        is_index = declared.name in graph.index_inputs
        normal[declared.name] = zeros[declared.name] if is_index else array
    for inputs in (normal, zeros):
        with suppress(Exception):  # A computed index is out of range, and the like.
            expected = _blobs(before, inputs)
            break
    else:
        return
    if any(may_overflow(tensor.cpu().numpy()) for tensor in expected.values()):
        return
    varying = {v for node in graph.nodes if node.layer.free_axes for v in node.outputs}
    moved: dict[str, torch.Tensor] | None = None
    for blob, tensor in _blobs(after, inputs).items():
        # Without a Dropout in place, a blob whose memory it changed has a value of its own.
        if blob not in graph.blobs or graph.blobs[blob] in varying:
            continue
        difference = _difference(blob, expected[blob], tensor)
        if difference.exceeds(None):
            moved = moved or _blobs(before, {n: x * (1 + NUDGE) for n, x in inputs.items()})
            own = _difference(blob, expected[blob], moved[blob])
            if difference.max_abs <= ROUNDING * own.max_abs:
                continue
            raise ParityError(
                f"the optimised module differs in the blob {blob!r} by {difference.max_abs:.3g} "
                f"(its peak is {difference.peak:.3g}). If a layer of the module was replaced, "
                "optimise before that; else this is a fault of caffe2torch."
            )


def _difference(blob: str, expected: torch.Tensor, actual: torch.Tensor) -> BlobDifference:
    difference = BlobDifference(blob)
    difference.add(expected.cpu().numpy(), actual.cpu().numpy())
    return difference


def _blobs(module: CaffeModule, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """All blobs of a pass in evaluation mode, the outputs as ``forward`` gives them.

    Random layers draw the same numbers every time, and nothing of ``module`` is changed.
    """
    import torch

    if is_stateful(module.caffe_graph):
        module = deepcopy(module)
    mode, devices = module.training, [x.device for x in inputs.values() if x.is_cuda][:1]

    def seed() -> None:
        torch.default_generator.manual_seed(0)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(0)

    with torch.inference_mode(), torch.random.fork_rng(devices):
        try:
            module.eval()
            seed()
            blobs = module.blobs(inputs)
            if is_stateful(module.caffe_graph):
                return blobs
            seed()
            result = module(inputs)
        finally:
            module.train(mode)
    outputs = {module.output_names[0]: result} if isinstance(result, torch.Tensor) else result
    return {**blobs, **outputs}


def is_stateful(graph: Graph) -> bool:
    """Whether a pass changes what the next one computes."""
    from caffe2torch.lower.memory import remembering

    return bool(remembering(graph)) or "TRAIN" in graph.own_phases.values()
