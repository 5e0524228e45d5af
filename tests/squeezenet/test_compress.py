"""Compression of a small SqueezeNet, and the file it makes, read back by what reads any."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.errors import ArtefactError, NetError, ReadError, WeightsError
from caffe2torch.io.deep_compression import coded_size, encode
from squeezenet import SqueezeNet, load_pretrained
from squeezenet.compress import compress, compress_file, read_calibration
from squeezenet.deploy import ARCHITECTURES, Architecture, deploy_prototxt
from squeezenet.export import export
from squeezenet.preprocess import PREPROCESSING, Transform

SMALL = (2, 3, 2, 3, 4, 4, 5, 5)
CLASSES = 6
SIDE = 51


@pytest.fixture(autouse=True)
def small_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions with a few thousand weights."""
    one = Architecture(16, 7, (4, 8), conv10_pad=1, squeeze=SMALL)
    other = Architecture(12, 3, (3, 5), conv10_pad=0, squeeze=SMALL)
    monkeypatch.setitem(ARCHITECTURES, "1.0", one)  # type: ignore[arg-type]
    monkeypatch.setitem(ARCHITECTURES, "1.1", other)  # type: ignore[arg-type]


def net(version: str = "1.1", bypass: str | None = None) -> SqueezeNet:
    torch.manual_seed(0)
    model = SqueezeNet(version, bypass=bypass, num_classes=CLASSES).eval()
    torch.nn.init.normal_(model.conv10.weight, std=0.3)
    return model


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures: noise would have no correlations to make up for a loss with."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(-100, 100, (count, 5, 5, 3)).astype(np.float32)
    return torch.stack(
        [torch.from_numpy(cv2.resize(i, (SIDE, SIDE)).transpose(2, 0, 1).copy()) for i in small]
    )


def size_of(model: SqueezeNet) -> int:
    """Bytes of a file that keeps every weight."""
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    return sum(1028 + 4 * c.out_channels + c.weight.numel() * 3 // 2 + 1 for c in convs)


def magnitude_pruned(model: SqueezeNet, share: float) -> SqueezeNet:
    pruned = net(model.version)
    for module in pruned.modules():
        if isinstance(module, torch.nn.Conv2d):
            size = module.weight.abs()
            module.weight.data[size < size.flatten().quantile(1 - share)] = 0
    return pruned


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_file_holds_exactly_the_compressed_model(version: str, tmp_path: Path) -> None:
    model = net(version)
    size = size_of(model) - 4000
    result = compress(model, images(6), size=size)
    data = encode(result.layers)
    assert len(data) == sum(map(coded_size, result.layers))
    assert size - 200 < len(data) <= size
    (tmp_path / "x.net").write_bytes(data)
    (tmp_path / "x.prototxt").write_text(deploy_prototxt(version, None, CLASSES, size=SIDE))
    again = load_pretrained(version, tmp_path / "x.net")
    assert again.num_classes == CLASSES
    state = result.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert all(len(np.unique(layer.codes)) <= 256 for layer in result.layers)


def test_it_is_closer_to_the_model_than_pruning_by_magnitude() -> None:
    model, others = net(), images(8, seed=1)
    size = size_of(model) - 4000
    result = compress(model, images(16), size=size)
    kept = sum(int(np.count_nonzero(layer.codes)) for layer in result.layers)
    total = sum(layer.codes.size for layer in result.layers)
    with torch.no_grad():
        wanted, ours = model(others), result.model(others)
        plain = magnitude_pruned(model, kept / total)(others)
    assert float((ours - wanted).square().sum()) < 0.5 * float((plain - wanted).square().sum())


def test_the_same_seed_gives_the_same_bytes_and_leaves_the_model() -> None:
    model = net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    files = [encode(compress(model, images(4), size=size_of(model) - 3000).layers) for _ in "ab"]
    assert files[0] == files[1]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_size_with_room_prunes_nothing() -> None:
    model = net()
    result = compress(model, images(4), size=2 * size_of(model))
    assert all((layer.codes != 0).all() for layer in result.layers)
    with torch.no_grad():
        torch.testing.assert_close(result.model(images(2)), model(images(2)), rtol=0.02, atol=0.02)


def test_what_the_file_cannot_hold_is_refused() -> None:
    with pytest.raises(NetError, match="has the bypass 'simple'"):
        compress(net(bypass="simple"), images(2), size=10**6)
    with pytest.raises(NetError, match=r"28,000 bytes is too small"):
        compress(net(), images(2), size=28_000)


def test_a_model_that_diverged_is_refused() -> None:
    model = net()
    model.fire5.expand3x3.weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(WeightsError, match="infinity or NaN"):
        compress(model, images(2), size=10**6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures in two class folders, a list of them, and a file that is no picture."""
    lines = []
    for index in range(6):
        name = f"data/{index % 2}/{index}.png"
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(index)
        cv2.imwrite(str(path), cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), (64, 64)))
        lines.append(f"{name} {index % 2}")
    (tmp_path / "data" / "1" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return tmp_path


def test_the_command(folder: Path) -> None:
    export(net(), Transform(replace(PREPROCESSING, crop_size=SIDE)), folder / "model.caffemodel")
    size = size_of(net()) - 3000
    arguments = ["compress", "model.caffemodel", "small.net", "--calibrate", "data"]
    arguments += ["--size", f"{size / 1000}kB", "--data", ".", "--val-list", "list.txt"]
    runner = CliRunner()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = runner.invoke(main, arguments)
        assert result.exit_code == 0, result.output
        assert "bad image, skipped" in result.output
        before, after = result.stdout.splitlines()[-2:]
        assert before.startswith("before")
        assert "of 6 images: top-1 " in after
        assert Path("small.net").stat().st_size <= size
        graph = caffe2torch.read("small.net")
        assert graph.inputs[0].shape == (1, 3, SIDE, SIDE)
        inspected = runner.invoke(main, ["inspect", "small.net"])
        assert inspected.exit_code == 0, inspected.output


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (["model.caffemodel", "small.bin", "--calibrate", "data"], r"end it in \.net"),
        (["model.caffemodel", "small.net", "--calibrate", "none"], "none is not a folder"),
        (["model.caffemodel", "small.net", "--calibrate", "empty"], "holds no image"),
        (["none.pt", "small.net", "--calibrate", "data"], r"none\.pt"),
        (["model.caffemodel", "small.net"], "Missing option '--calibrate'"),
        (["m", "small.net", "--calibrate", "data", "--size", "7 apples"], "is not a size such as"),
        (["m", "small.net", "--calibrate", "data", "--val-list", "x"], "--val-list needs --data"),
    ],
)
def test_bad_input_ends_in_one_error(
    change: list[str], cause: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "empty").mkdir()
    export(net(), Transform(replace(PREPROCESSING, crop_size=SIDE)), folder / "model.caffemodel")
    result = CliRunner().invoke(main, ["compress", *change])
    assert result.exit_code == 2, result.output
    assert re.search(cause, result.output)
    assert not (folder / "small.net").exists()


def test_calibration_images_depend_on_the_seed_alone(folder: Path) -> None:
    transform = Transform(replace(PREPROCESSING, crop_size=SIDE))
    bad: list[str] = []
    first = read_calibration(folder, transform, 4, 0, bad.append)
    assert first.shape == (4, 3, SIDE, SIDE)
    assert torch.equal(first, read_calibration(folder, transform, 4, 0, bad.append))
    assert not torch.equal(first, read_calibration(folder, transform, 4, 1, bad.append))
    assert len(read_calibration(folder, transform, 99, 0, bad.append)) == 6
    assert "broken.jpg" in bad[-1]
    with pytest.raises(ReadError, match="not a folder"):
        read_calibration(folder / "list.txt", transform, 4, 0, bad.append)


def test_a_failed_write_leaves_nothing(folder: Path) -> None:
    export(net(), Transform(replace(PREPROCESSING, crop_size=SIDE)), folder / "model.caffemodel")
    target = folder / "none" / "x.net"
    with pytest.raises(ArtefactError, match="cannot be written"):
        compress_file(
            folder / "model.caffemodel", target, folder / "data",
            size=size_of(net()), images=2, seed=0, report=lambda _: None,
        )  # fmt: skip
