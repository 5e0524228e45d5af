"""Training in bf16 and with channels last: near fp32, restored to the bit, float32 in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from golden import Case
from support import CASES, genuine, recorded_in

from caffe2torch.cli import main
from caffe2torch.errors import Caffe2TorchError
from caffe2torch.graph import Graph
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.passes.draft import State
from caffe2torch.training.fed import FedNet
from caffe2torch.training.net import open_net
from caffe2torch.training.precision import Arithmetic

CPU = torch.device("cpu")
ROUNDED = 2e-2
"""Of the peak: some roundings to the eight bits of bf16 one after the other, each 2^-8 at most."""
ANOTHER_ORDER = 1e-5
"""Of the peak: float32 sums in another order."""
CANCELLED = 1e-5
"""Absolute: gradients that are zero but for rounding, such as that of a bias before BatchNorm."""
DEEP = (
    "net_",
    "v1_",
    "v2_",
    "ssd_mini",
    "force_backward",
    "fanout_inplace",
    "lstm_",
    "bn_scale_inplace",
)
"""Cases of many layers. Where bf16 turns a ReLU or a maximum the other way, gradients jump; they
are to be finite. (In the last a bias before BatchNorm has a gradient of roundings alone.)"""
EXPLODING = "qr_"
"""Nets whose gradients are not finite in float32 either."""

NET = """
name: "small"
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 6 dim: 3 dim: 11 dim: 9 } shape { dim: 6 }
  data_filler { type: "gaussian" } data_filler { type: "constant" value: 2 } } }
layer { name: "c1" type: "Convolution" bottom: "x" top: "c1" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c1" top: "c1" }
layer { name: "scale" type: "Scale" bottom: "c1" top: "c1" scale_param { bias_term: true } }
layer { name: "r1" type: "ReLU" bottom: "c1" top: "c1" }
layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1"
  pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "n1" type: "LRN" bottom: "p1" top: "n1" }
layer { name: "c2" type: "Convolution" bottom: "n1" top: "c2" convolution_param {
  num_output: 6 kernel_size: 3 pad: 1 stride: 2 group: 2 weight_filler { type: "msra" } } }
layer { name: "c3" type: "Convolution" bottom: "n1" top: "c3" convolution_param {
  num_output: 4 kernel_size: 1 pad: 1 stride: 2 weight_filler { type: "msra" } } }
layer { name: "crop" type: "Crop" bottom: "c3" bottom: "c2" top: "c4" crop_param { axis: 2 } }
layer { name: "cat" type: "Concat" bottom: "c2" bottom: "c4" top: "cat" }
layer { name: "tanh" type: "TanH" bottom: "cat" top: "cat" }
layer { name: "drop" type: "Dropout" bottom: "cat" top: "cat" }
layer { name: "shape" type: "Reshape" bottom: "cat" top: "rows"
  reshape_param { shape { dim: 0 dim: -1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "rows" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "t" top: "accuracy"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" base_lr: 0.05 lr_policy: "fixed" max_iter: 12 display: 1 random_seed: 4
test_iter: 1 test_interval: 6 snapshot: 6 snapshot_prefix: "PREFIX" solver_mode: CPU
momentum: 0.9 weight_decay: 0.01
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the net."""
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    return tmp_path


def train(prefix: str, *arguments: str) -> Result:
    Path(f"{prefix}.prototxt").write_text(SOLVER.replace("PREFIX", prefix))
    return CliRunner().invoke(main, ["train", "--solver", f"{prefix}.prototxt", *arguments])


def blobs(path: str) -> list[Any]:
    return [np.array(blob.data) for found in read_caffemodel(path).blobs for blob in found]


def test_a_resumed_run_in_bf16_is_one_never_interrupted(folder: Path) -> None:
    assert train("whole", "--precision", "bf16").exit_code == 0
    state = ("--snapshot", "whole_iter_6.solverstate", "--resume-data")
    result = train("again", "--precision", "bf16", *state)
    assert result.exit_code == 0, result.output
    whole, again = (blobs(f"{prefix}_iter_12.caffemodel") for prefix in ("whole", "again"))
    for first, second in zip(whole, again, strict=True):
        np.testing.assert_array_equal(first, second)
    # Weights that had been rounded to bf16 would have 16 bits of zeros.
    assert any((array.astype("<f4").view(np.uint32) & 0xFFFF).any() for array in whole)


def test_a_precision_that_needs_scaled_losses_is_refused_in_a_line(folder: Path) -> None:
    result = train("none", "--precision", "fp16")
    assert result.exit_code == 2
    assert "'fp16' is not one of 'fp32', 'bf16'" in result.stderr.splitlines()[-1]


def test_channels_last_changes_roundings_alone() -> None:
    found = []
    for last in (False, True):
        net = open_net(parse_prototxt(NET, "net"), State("TRAIN"), seed=3)
        fed = FedNet(net, CPU, arithmetic=Arithmetic(channels_last=last))
        torch.manual_seed(5)  # The masks of Dropout are the same in both orders.
        done = fed.forward_backward()
        gradients = [slot.parameter.grad for slot in fed.slots]
        found.append([done.loss, *(grad for grad in gradients if grad is not None)])
    assert len(found[0]) == 11
    for plain, last in zip(*found, strict=True):
        peak = float(plain.abs().max())
        torch.testing.assert_close(last, plain, rtol=0, atol=ANOTHER_ORDER * peak + CANCELLED)


def test_every_recorded_net_in_bf16() -> None:
    """Fed with numbers of bf16, all layer types give what they give of the same in float32."""
    below = genuine("SHARED", "gradients").glob("*/grad.npz")
    wrong, count = [], 0
    for folder in sorted({*(p.parent for p in below), *(p.parent for p in CASES.glob("*/io.npz"))}):
        try:
            graph, arrays = opened(folder)
        except Caffe2TorchError:  # Some are refused.
            continue
        if folder.name.startswith(EXPLODING):
            continue
        count += 1
        full = computed(graph, arrays, "fp32", False)
        for last in (False, True):
            low = computed(graph, arrays, "bf16", last)
            lines = differences(low, full, of_layers=not folder.name.startswith(DEEP))
            wrong += [f"{folder.name}: {line} (channels last: {last})" for line in lines]
    assert count > 380
    assert not wrong, "\n".join(wrong)


def differences(
    low: dict[str, torch.Tensor], full: dict[str, torch.Tensor], *, of_layers: bool
) -> list[str]:
    """What is not finite, nor, in a net ``of_layers``, near enough; one line each."""
    wrong = []
    for name, expected in full.items():
        finite = expected.isfinite()
        if name not in low:
            wrong.append(f"{name} is missing")
        elif low[name].shape != expected.shape:  # In a deep net other boxes are detected.
            wrong += [f"{name} has the shape {tuple(low[name].shape)}"] if of_layers else []
        elif not bool((low[name].isfinite() | ~finite).all()):
            wrong.append(f"{name} is not finite")
        elif of_layers and expected[finite].numel():
            away = float((low[name] - expected)[finite].abs().max())
            peak = float(expected[finite].abs().max())
            if not away <= ROUNDED * peak + CANCELLED:
                wrong.append(f"{name} is {away:.1e} away, its peak is {peak:.1e}")
    return wrong


def opened(folder: Path) -> tuple[Graph, dict[str, Any]]:
    """A recorded net and its inputs."""
    if (folder / "grad.npz").exists():
        with np.load(folder / "grad.npz") as file:
            arrays = {key[3:]: file[key] for key in file.files if key.startswith("in/")}
    else:
        arrays = recorded_in(folder).inputs
    return Case(folder).read(), arrays


def computed(
    graph: Graph, arrays: dict[str, Any], precision: str, last: bool
) -> dict[str, torch.Tensor]:
    """Outputs and gradients of a net whose inputs are rounded to bf16."""
    torch.manual_seed(0)
    module = to_torch(graph)
    inputs = {
        name: torch.from_numpy(np.array(array)).bfloat16().float().requires_grad_()
        for name, array in arrays.items()
    }
    given = {n: x.bfloat16() if precision == "bf16" else x for n, x in inputs.items()}
    around = Arithmetic(precision, last).of(graph, module, CPU)
    values = module.values(given, None, around)
    found = {name: values[graph.blobs[name]].float() for name in graph.outputs}
    generator = torch.Generator().manual_seed(1)
    terms = [(x * torch.randn(x.shape, generator=generator)).sum() for x in found.values()]
    total = torch.stack(terms).sum()
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    found = {name: value.detach() for name, value in found.items()}
    learned = dict(module.named_parameters())
    return found | {
        f"gradient of {name}": tensor.grad
        for name, tensor in (inputs | learned).items()
        if tensor.grad is not None
    }


NARROW = """
layer { name: "d" type: "DummyData" top: "x" dummy_data_param {
  shape { dim: 16 dim: 8 dim: 5 dim: 1 } data_filler { type: "gaussian" } } }
layer { name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {
  num_output: 16 kernel_h: 5 kernel_w: 5 pad_h: 0 pad_w: 4 stride_h: 2 stride_w: 4
  weight_filler { type: "msra" } } }
layer { name: "r" type: "Reduction" bottom: "y" top: "r" loss_weight: 1
  reduction_param { operation: SUMSQ } }
"""


def test_of_a_narrow_image_the_gradients_are_those_of_float32() -> None:
    """Of one narrower than the stride oneDNN gives others in bf16, or none that is finite."""

    found = []
    for arithmetic in (Arithmetic(channels_last=False), Arithmetic("bf16")):
        fed = FedNet(
            open_net(parse_prototxt(NARROW, "net"), State("TRAIN"), seed=3), CPU, 0, arithmetic
        )
        fed.forward_backward()
        found.append(fed.slots[0].parameter.grad)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)
