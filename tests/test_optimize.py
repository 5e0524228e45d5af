"""The optimised module: right on the whole corpus, packed where it should be, checked when made."""

from __future__ import annotations

import copy
import io
import json
import os
import warnings
from pathlib import Path

import pytest
import torch
from support import CASES, NEAR_ZERO, assert_close, recorded
from torch import nn

import caffe2torch
from caffe2torch.lower.fast import FastConvolution, FastModule

TOLERANCE = 1e-4
TOUCHED = [f'"{t}"' for t in ("Convolution", "BatchNorm", "Scale", "Bias", "Dropout", "Power")]
"""Types of which the optimised net has another form."""


def cases() -> list[str]:
    found = []
    for path in sorted(CASES.glob("*/case.json")):
        case = json.loads(path.read_text())
        plain = case["expect"] == "ok" and case["phase"] == "TEST" and not case.get("quirk")
        touched = any(t in (path.parent / "net.prototxt").read_text() for t in TOUCHED)
        if plain and touched and "wechat" not in (case["weights_file"] or ""):
            found.append(path.parent.name)
    return found


@pytest.fixture
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(CASES / request.param)
    return CASES / request.param


def load(folder: Path) -> caffe2torch.lower.to_torch.CaffeModule:
    case = json.loads((folder / "case.json").read_text())
    weights = folder / case["weights_file"] if case["weights_file"] else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        return caffe2torch.load(
            weights, folder / "net.prototxt", level=case["level"], stages=case["stages"]
        )


def inputs_of(folder: Path) -> dict[str, torch.Tensor]:
    inputs = recorded(folder.name).inputs
    return {name: torch.from_numpy(value) for name, value in inputs.items()}


@pytest.mark.parametrize("folder", cases(), indirect=True)
def test_corpus(folder: Path) -> None:
    module = load(folder)
    optimized = caffe2torch.optimize(module)
    with torch.inference_mode():
        result = optimized(inputs_of(folder))
    outputs = {module.output_names[0]: result} if isinstance(result, torch.Tensor) else result
    expected = recorded(folder.name).outputs
    for name, value in outputs.items():
        assert_close(value.numpy(), expected[name], TOLERANCE, absolute=NEAR_ZERO, what=name)


@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_convolutions_take_their_relu(folder: Path) -> None:
    module = load(folder)
    optimized = caffe2torch.optimize(module)
    packed = [m for m in optimized.modules() if isinstance(m, FastConvolution)]
    assert len(packed) == 26
    assert all(m.relu for m in packed)
    assert not any(node.layer.type in ("ReLU", "Dropout") for node in optimized.caffe_graph.nodes)
    assert not any(parameter.requires_grad for parameter in optimized.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_a_batch_in_parts_is_the_same(folder: Path) -> None:
    optimized = caffe2torch.optimize(load(folder))
    (x,) = inputs_of(folder).values()
    batch = torch.cat([x, x.flip(-1), x.flip(-2), 2 * x, -x])
    with torch.inference_mode():
        whole = optimized(batch)
        with optimized.parts_of(2):
            parts = optimized(batch)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6 * float(whole.abs().max()))


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_new_weights_take_effect(folder: Path, copied: bool, assign: bool) -> None:
    module = load(folder)
    original = optimized = caffe2torch.optimize(module)
    feed = inputs_of(folder)
    with torch.inference_mode():
        before = original(feed)
    if copied:
        optimized = copy.deepcopy(original)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.5)
    optimized.load_state_dict(module.state_dict(), assign=assign)
    with torch.inference_mode():
        after, expected = optimized(feed), module(feed)
        torch.testing.assert_close(after, expected)
        assert not torch.equal(after, before)
        assert torch.equal(original(feed), before) is copied


@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_copies_and_files(folder: Path) -> None:
    optimized = caffe2torch.optimize(load(folder))
    feed = inputs_of(folder)
    file = io.BytesIO()
    torch.save(optimized, file)
    file.seek(0)
    with torch.inference_mode():
        expected = optimized(feed)
        for other in (copy.deepcopy(optimized), torch.load(file, weights_only=False)):
            torch.testing.assert_close(other(feed), expected)


@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_gradients_of_the_input_and_double_precision(folder: Path) -> None:
    module = load(folder)
    optimized = caffe2torch.optimize(module)
    (x,) = inputs_of(folder).values()
    grads = []
    for net in (module, optimized):
        leaf = x.clone().requires_grad_()
        net(leaf).square().sum().backward()
        assert leaf.grad is not None
        grads.append(leaf.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-7)
    doubled = optimized.double()(x.double())
    torch.testing.assert_close(doubled.float(), module(x).detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_gradients_of_a_weight_and_automatic_casts(folder: Path) -> None:
    module = load(folder)
    optimized = caffe2torch.optimize(module)
    (x,) = inputs_of(folder).values()
    grads = []
    for net in (module, optimized):
        with torch.no_grad():
            net(x)  # Binds the layers: what follows must not be served by them.
        weight = net.get_parameter("conv1.weight").requires_grad_()
        net(x).square().sum().backward()
        assert weight.grad is not None
        grads.append(weight.grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-4, atol=1e-7)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(optimized(x).argmax(1), module(x).argmax(1))
        assert {b.dtype for b in optimized.blobs(x).values()} > {torch.bfloat16}


@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_training_is_refused_and_optimising_twice_is_once(folder: Path) -> None:
    optimized = caffe2torch.optimize(load(folder))
    assert isinstance(optimized, FastModule)
    assert caffe2torch.optimize(optimized) is optimized
    with pytest.raises(caffe2torch.NetError, match="for inference"):
        optimized.train()


@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_a_layer_replaced_by_hand_is_noticed(folder: Path) -> None:
    module = load(folder)
    module.relu_conv1 = nn.Identity()
    with pytest.raises(caffe2torch.ParityError, match="If a layer of the module was replaced"):
        caffe2torch.optimize(module)


@pytest.mark.parametrize("folder", ["bn_2d"], indirect=True)
def test_weights_of_the_module_count(folder: Path) -> None:
    module = load(folder)
    with torch.no_grad():
        for buffer in module.buffers():
            buffer.add_(0.5)
    feed = inputs_of(folder)
    with torch.inference_mode():
        torch.testing.assert_close(caffe2torch.optimize(module)(feed), module(feed))


@pytest.mark.parametrize(
    ("folder", "splits"),
    [("net_resnet_block", True), ("bn_batch_stats_test", False), ("net_lstm_captioning", False)],
    indirect=["folder"],
)
def test_only_nets_that_compute_items_alone_are_split(folder: Path, splits: bool) -> None:
    assert caffe2torch.optimize(load(folder)).splits_batches == splits


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs a C++ compiler")
@pytest.mark.parametrize("folder", ["net_squeezenet_v1_1"], indirect=True)
def test_compiled(folder: Path) -> None:
    module = load(folder)
    feed = inputs_of(folder)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # The compiler's own.
        compiled = caffe2torch.optimize(module, compile=True)
        torch.testing.assert_close(compiled(feed), module(feed), rtol=1e-4, atol=1e-6)
