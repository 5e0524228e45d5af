"""Make a converted module fast for inference, and check that it still computes the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from caffe2torch.compare import BlobDifference
from caffe2torch.errors import ParityError
from caffe2torch.rewrites.fuse import fuse

if TYPE_CHECKING:
    import torch
    from torch import nn

    from caffe2torch.lower.to_torch import CaffeModule


def optimize(module: CaffeModule, *, compile: bool = False) -> nn.Module:
    """Return a module for inference that computes what ``module`` does, faster.

    BatchNorm, Scale and Bias are folded into the convolution or inner product before them
    and Dropout is removed. On the CPU convolutions then run in oneDNN's layouts with their
    ReLU in one pass; on other devices blobs are channels-last. ``module`` is not changed and
    stays trainable. After each rewrite both are run on seeded random input.

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

    from caffe2torch.lower.packed import PackedModule
    from caffe2torch.lower.to_torch import graph_with_weights, to_torch

    if isinstance(module, PackedModule):
        return module
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    graph = fuse(graph_with_weights(module))
    fused = to_torch(graph).to(device).eval()
    _check(module, fused, device)
    if compile:
        return cast("nn.Module", torch.compile(fused.requires_grad_(False)))
    packed = PackedModule(graph).to(device)
    _check(fused, packed, device)
    if packed.splits_batches:
        with packed.parts_of(1):
            _check(fused, packed, device, items=3)
    return packed


def _check(before: CaffeModule, after: CaffeModule, device: torch.device, items: int = 0) -> None:
    """Raise ParityError if the modules differ in a blob that both show, or in an output.

    ``items`` is a batch size to use in place of the declared one. Blobs are left out whose
    size depends on which candidates pass a threshold.
    """
    import torch

    graph = before.caffe_graph
    rng = np.random.default_rng(0)
    inputs = {}
    for declared in graph.inputs:
        shape = (items, *declared.shape[1:]) if items else declared.shape
        # Unit normal, not pixels: a softmax of large logits enlarges rounding errors.
        is_index = declared.name in graph.index_inputs
        array = np.zeros(shape, np.float32) if is_index else rng.standard_normal(shape, np.float32)
        inputs[declared.name] = torch.from_numpy(array).to(device)
    mode = before.training
    with torch.inference_mode():
        expected = before.eval().blobs(inputs)
        before.train(mode)
        result = after(inputs)
        outputs = {after.output_names[0]: result} if isinstance(result, torch.Tensor) else result
        shown = [*after.blobs(inputs).items(), *outputs.items()]
    varying = {v for node in graph.nodes if node.layer.free_axes for v in node.outputs}
    for blob, tensor in shown:
        if graph.blobs[blob] in varying:
            continue
        difference = BlobDifference(blob)
        difference.add(expected[blob].cpu().numpy(), tensor.cpu().numpy())
        if difference.exceeds(None):
            raise ParityError(
                f"the optimised module differs in the blob {blob!r} by {difference.max_abs:.3g} "
                f"(its peak is {difference.peak:.3g}). If a layer of the module was replaced, "
                "optimise before that; else this is a fault of caffe2torch."
            )
