"""torchvision's layout: its keys, its input, and a refusal where its net computes otherwise."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from support import CASES, genuine_squeezenet
from torch import Tensor, nn

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.errors import ArtefactError, Caffe2TorchWarning
from squeezenet.preprocess import PREPROCESSING, preprocess
from squeezenet.weights import load_model

OWN_INPUT = pytest.warns(Caffe2TorchWarning, match="add --input imagenet")


class Fire(nn.Module):
    """A fire module with the attribute names that torchvision gives its layers."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class LikeTorchvision(nn.Module):
    """The structure that torchvision documents for squeezenet1_1: places decide the keys."""

    def __init__(self, num_classes: int = 1000) -> None:
        super().__init__()
        pool = [nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3)]
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool[0],
            Fire(64, 16, 64), Fire(128, 16, 64), pool[1],
            Fire(128, 32, 128), Fire(256, 32, 128), pool[2],
            Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(512, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).flatten(1)


def made(model: Path, prototxt: Path | None, path: Path, **options: object) -> LikeTorchvision:
    """The module with what was written to ``path`` loaded strictly."""
    caffe2torch.convert(model, path, prototxt, layout="torchvision", **options)
    state = (
        load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    )
    assert isinstance(state, (dict, OrderedDict))
    classes = state["classifier.1.bias"].numel()
    module = LikeTorchvision(classes).eval()
    module.load_state_dict(state)
    return module


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_the_weights_are_those_of_the_net(
    tmp_path: Path, suffix: str, squeezenet_files: tuple[Path, Path]
) -> None:
    model, prototxt = squeezenet_files
    with OWN_INPUT:
        module = made(model, prototxt, tmp_path / f"t{suffix}")
    x = torch.randn(2, 3, 67, 67, generator=torch.Generator().manual_seed(0)) * 50
    with torch.no_grad():
        expected = caffe2torch.load(model, prototxt)(x).flatten(1)
        assert expected.max() < 0.99
        torch.testing.assert_close(module(x).softmax(1), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("half", [False, True])
def test_genuine_weights_take_what_torchvision_feeds(
    tmp_path: Path, suffix: str, half: bool
) -> None:
    model = genuine_squeezenet("1.1")
    module = made(model, None, tmp_path / f"t{suffix}", input="imagenet", half=half)
    rng = np.random.default_rng(0)
    bgr = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    plain = load_model(model).model
    caffe = preprocess(bgr)
    rgb = (caffe + np.float32([104, 117, 123]).reshape(3, 1, 1))[::-1] / 255
    mean = np.float32([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    std = np.float32([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    with torch.no_grad():
        expected = plain(torch.from_numpy(caffe[None]))
        actual = module(torch.from_numpy(np.float32((rgb - mean) / std)[None]))
    peak = float(expected.max())
    torch.testing.assert_close(actual, expected, rtol=0, atol=(2e-3 if half else 1e-5) * peak)
    assert torch.equal(actual.topk(1).indices, expected.topk(1).indices)


def test_readers_refuse_it_by_name(tmp_path: Path, squeezenet_files: tuple[Path, Path]) -> None:
    model, prototxt = squeezenet_files
    for suffix in (".pt", ".safetensors"):
        path = tmp_path / f"t{suffix}"
        with OWN_INPUT:
            made(model, prototxt, path)
        for reader in (caffe2torch.read, load_model):
            with pytest.raises(ArtefactError, match="bare state_dict in torchvision's layout"):
                reader(path)


def test_v1_0_is_refused_for_its_padding(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"SqueezeNet 1\.0, whose conv10 is padded by 1"):
        caffe2torch.convert(genuine_squeezenet("1.0"), tmp_path / "t.pt", layout="torchvision")


def test_another_net_is_refused(tmp_path: Path) -> None:
    case = CASES / "net_resnet_block"
    files = (case / "net.caffemodel", tmp_path / "t.pt", case / "net.prototxt")
    with pytest.raises(ArtefactError, match=r"squeezenet1_1, but .* is not a SqueezeNet"):
        caffe2torch.convert(*files, layout="torchvision")


def test_a_bypass_is_refused(tmp_path: Path) -> None:
    from caffe2torch.artefact.layout import write_layout
    from squeezenet.export import graph_of
    from squeezenet.model import SqueezeNet

    graph = graph_of(SqueezeNet("1.1", bypass="simple", num_classes=3), 67)
    with pytest.raises(ArtefactError, match="no simple bypass"):
        write_layout(graph, tmp_path / "t.pt", "torchvision")
    with pytest.raises(ArtefactError, match=r"no layout 'keras'; choose torchvision"):
        write_layout(graph, tmp_path / "t.pt", "keras")


def test_the_command(tmp_path: Path, squeezenet_files: tuple[Path, Path]) -> None:
    model, prototxt = map(str, squeezenet_files)
    command = ["convert", model, "--prototxt", prototxt, "--layout", "torchvision"]
    result = CliRunner().invoke(main, [*command, str(tmp_path / "t.onnx")])
    assert result.exit_code == 2
    assert "write .pt or .safetensors" in result.output
    result = CliRunner().invoke(main, [*command, str(tmp_path / "t.pt"), "--input", "imagenet"])
    assert result.exit_code == 0, result.output
    assert "Warning" not in result.output


@pytest.fixture(scope="module")
def squeezenet_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A SqueezeNet v1.1 of 5 classes with random weights, as Caffe's two files."""
    from squeezenet.export import export
    from squeezenet.model import SqueezeNet
    from squeezenet.preprocess import Transform

    torch.manual_seed(2)
    model = SqueezeNet("1.1", num_classes=5).eval()
    nn.init.normal_(model.conv10.weight, std=0.2)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, std=0.1)
    path = tmp_path_factory.mktemp("net") / "net.caffemodel"
    caffemodel, prototxt = export(model, Transform(replace(PREPROCESSING, crop_size=67)), path)
    return caffemodel, prototxt
