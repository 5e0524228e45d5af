from __future__ import annotations

import copy
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support import CASES

from caffe2torch.errors import Caffe2TorchError
from caffe2torch.io.schema import message_class
from squeezenet import SqueezeNet, deploy

SMALL = (2, 2, 4, 4, 6, 6, 8, 8)
SMALL_NETS = {
    "net_squeezenet_v1_0": ("1.0", None, deploy.Architecture(12, 7, (4, 8), 1, SMALL)),
    "net_squeezenet_v1_1": ("1.1", None, deploy.Architecture(8, 3, (3, 5), 0, SMALL)),
    "net_squeezenet_simple_bypass": (
        "1.0",
        "simple",
        deploy.Architecture(12, 7, (4, 8), 1, SMALL),
    ),
    "net_squeezenet_complex_bypass": (
        "1.0",
        "complex",
        deploy.Architecture(12, 7, (4, 8), 0, SMALL),
    ),
}

CAFFE_NOISE = 1e-4
"""Of the peak: what the conformance corpus advises for whole nets in float32."""


def caffe_weights(path: Path) -> dict[str, torch.Tensor]:
    net = message_class("NetParameter")()
    net.ParseFromString(path.read_bytes())
    return {
        f"{layer.name.replace('/', '.')}.{name}": torch.tensor(list(blob.data)).reshape(
            tuple(blob.shape.dim)
        )
        for layer in net.layer
        for name, blob in zip(("weight", "bias"), layer.blobs, strict=False)
    }


@pytest.mark.parametrize("case", SMALL_NETS)
def test_computes_what_caffe_does(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    version, bypass, small = SMALL_NETS[case]
    monkeypatch.setattr(deploy, "ARCHITECTURES", {version: small})
    model = SqueezeNet(version, bypass=bypass, num_classes=20).eval()
    model.load_state_dict(caffe_weights(CASES / case / "net.caffemodel"))

    arrays = np.load(CASES / case / "io.npz")
    with torch.no_grad():
        logits = model(torch.from_numpy(arrays["in/data"])).numpy()

    expected = arrays["mid/pool10"].reshape(logits.shape)
    assert np.abs(logits - expected).max() <= CAFFE_NOISE * np.abs(expected).max()
    assert np.abs(expected).max() > 0


@pytest.mark.parametrize(
    ("version", "bypass", "count"),
    [
        ("1.0", None, 1_248_424),
        ("1.1", None, 1_235_496),
        ("1.0", "simple", 1_248_424),
        ("1.1", "simple", 1_235_496),
        # 1x1 convolutions 96->128, 128->256, 256->384 and 384->512, with biases.
        ("1.0", "complex", 1_248_424 + 12_416 + 33_024 + 98_688 + 197_120),
        # As above with the 64 channels of v1.1's conv1.
        ("1.1", "complex", 1_235_496 + 8_320 + 33_024 + 98_688 + 197_120),
    ],
)
def test_parameter_count(version: str, bypass: str | None, count: int) -> None:
    model = SqueezeNet(version, bypass=bypass)
    assert sum(p.numel() for p in model.parameters()) == count


def test_state_dict_has_caffe_names() -> None:
    keys = set(SqueezeNet("1.1", bypass="complex").state_dict())
    layers = {"conv1", "conv10"}
    layers |= {
        f"fire{n}.{part}" for n in range(2, 10) for part in ("squeeze1x1", "expand1x1", "expand3x3")
    }
    layers |= {f"fire{n}.bypass_conv" for n in (2, 4, 6, 8)}
    assert keys == {f"{layer}.{name}" for layer in layers for name in ("weight", "bias")}


@pytest.mark.parametrize(
    ("version", "size", "sizes"),
    [
        ("1.0", 227, {"conv1": 111, "pool1": 55, "pool4": 27, "pool8": 13, "conv10": 15}),
        ("1.1", 227, {"conv1": 113, "pool1": 56, "pool3": 28, "pool5": 14, "conv10": 14}),
        ("1.1", 224, {"conv1": 111, "pool1": 55, "pool3": 27, "pool5": 13, "conv10": 13}),
    ],
)
def test_map_sizes_are_those_of_caffe(version: str, size: int, sizes: dict[str, int]) -> None:
    model = SqueezeNet(version, num_classes=3).eval()
    seen: dict[str, int] = {}
    for name, layer in model.named_children():
        if name in sizes:
            layer.register_forward_hook(
                lambda _layer, _inputs, out, name=name: seen.update({name: out.shape[2]})
            )
    with torch.no_grad():
        model(torch.zeros(1, 3, size, size))
    assert seen == sizes


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_any_input_size(version: str) -> None:
    model = SqueezeNet(version, bypass="complex", num_classes=5).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, 61, 97)).shape == (2, 5)


def test_channels_last_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    model = SqueezeNet("1.1", bypass="simple", num_classes=7).eval()
    x = torch.randn(2, 3, 63, 95)
    with torch.no_grad():
        expected = model(x)
        last = model.to(memory_format=torch.channels_last)
        actual = last(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected)


def test_compiles_without_graph_breaks() -> None:
    torch.manual_seed(0)
    model = SqueezeNet("1.0", bypass="complex", num_classes=7).eval()
    x = torch.randn(2, 3, 63, 95)
    with torch.no_grad():
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), model(x))


def test_input_is_left_as_it_is() -> None:
    x = torch.randn(1, 3, 63, 63)
    before = x.clone()
    SqueezeNet("1.1", bypass="simple", num_classes=2)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("bypass", [None, "simple", "complex"])
def test_every_weight_gets_a_gradient(bypass: str | None) -> None:
    torch.manual_seed(0)
    model = SqueezeNet("1.1", bypass=bypass, num_classes=5)
    model(torch.randn(3, 3, 63, 63)).square().sum().backward()
    silent = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0
    ]
    assert silent == []


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    model = SqueezeNet("1.1", num_classes=5, dropout=0.3)
    assert model.drop9.p == 0.3
    x = torch.randn(2, 3, 63, 63)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_fresh_weights_follow_caffes_fillers() -> None:
    torch.manual_seed(0)
    model = SqueezeNet("1.0", bypass="complex")
    for layer, fan_in in [
        (model.conv1, 3 * 7 * 7),
        (model.fire9.expand3x3, 64 * 3 * 3),
        (model.fire8.bypass_conv, 384),
    ]:
        bound = math.sqrt(3 / fan_in)
        weight = layer.weight.detach()
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()
    assert model.conv10.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert model.conv10.weight.abs().max() > 0.03
    assert not model.conv10.bias.any()


def test_replace_classifier_keeps_the_rest() -> None:
    torch.manual_seed(0)
    model = SqueezeNet("1.0").double()
    before = copy.deepcopy(model.state_dict())
    model.replace_classifier(7)
    assert model.num_classes == 7
    assert model.conv10.weight.dtype == torch.float64
    assert model.conv10.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert model.conv10.padding == (1, 1)
    for key, value in model.state_dict().items():
        if not key.startswith("conv10."):
            assert torch.equal(value, before[key])
    assert model(torch.zeros(2, 3, 63, 63, dtype=torch.float64)).shape == (2, 7)


def test_architecture_rebuilds_the_model() -> None:
    model = SqueezeNet("1.1", bypass="simple", num_classes=7)
    record = json.loads(json.dumps(model.architecture))
    assert record == {
        "name": "squeezenet",
        "version": "1.1",
        "bypass": "simple",
        "num_classes": 7,
    }


def test_model_carries_its_preprocessing() -> None:
    preprocessing = SqueezeNet().preprocessing
    assert (preprocessing.resize, preprocessing.crop_size) == (256, 227)
    assert (preprocessing.mean, preprocessing.channel_order) == ((104.0, 117.0, 123.0), "BGR")


def test_whole_model_survives_saving() -> None:
    model = SqueezeNet("1.1", num_classes=3).eval()
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    x = torch.randn(1, 3, 63, 63)
    assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "1.2"}, "no SqueezeNet version '1.2': choose '1.0' or '1.1'"),
        ({"bypass": "full"}, "no bypass 'full': choose None, 'simple' or 'complex'"),
        ({"num_classes": 0}, "num_classes is 0: a net needs at least one class"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(Caffe2TorchError, match=message):
        SqueezeNet(**arguments)  # type: ignore[arg-type]
