"""The published compressed SqueezeNet: same logits as recorded, and the SqueezeNet it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import genuine, genuine_squeezenet

import caffe2torch
from caffe2torch.errors import WeightsError
from squeezenet import load_pretrained
from squeezenet.compress import compress_file, measure


def published() -> tuple[Path, Path]:
    folder = genuine("MODELS", "squeezenet_deep_compression")
    return folder / "compressed_SqueezeNet.net", folder / "SqueezeNet_deploy.prototxt"


def test_without_a_prototxt_it_is_v1_0() -> None:
    model, prototxt = published()
    alone, named = caffe2torch.read(model), caffe2torch.read(model, prototxt)
    assert list(named.params)[2] == "fire2.conv1x1_1.weight"
    for a, b in zip(alone.params.values(), named.params.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    net = load_pretrained("1.0", weights=model)
    assert (net.version, net.bypass, net.num_classes) == ("1.0", None, 1000)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), alone.params[key])
    with pytest.raises(WeightsError, match=r"holds SqueezeNet 1\.0, not 1\.1"):
        load_pretrained("1.1", weights=model)


def test_it_converts_as_any_other_weights(tmp_path: Path) -> None:
    model, prototxt = published()
    path = caffe2torch.convert(model, tmp_path / "net.safetensors", prototxt)
    image = torch.randn(1, 3, 227, 227, generator=torch.Generator().manual_seed(0)) * 50
    with torch.no_grad():
        expected = caffe2torch.load(model, prototxt)(image).flatten(1)
        actual = load_pretrained("1.0", weights=path)(image)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_recorded_outputs_of_200_images() -> None:
    model, prototxt = published()
    report = caffe2torch.check_parity(
        model,
        prototxt,
        images=genuine("DATA", "imagenet_sample"),
        reference=genuine("REFERENCE", "imagenet_sample_pool10.npz"),
    )
    assert report.passed
    assert "OpenCV needs a .caffemodel" in report.skipped["opencv"]
    recorded = [c for c in report.comparisons if "reference" in (c.engine, c.baseline)]
    assert len(recorded) == 2
    for pair in recorded:
        (logits,) = pair.blobs
        assert logits.max_abs <= 1e-3
        assert logits.max_rel <= 1e-4
        assert (pair.agreement.images, pair.agreement.top1) == (200, 200)
    for score in report.scores.values():
        assert (score.images, score.top1, score.top5) == (200, 131, 177)


@pytest.mark.slow
def test_the_published_weights_compress(tmp_path: Path) -> None:
    source, data = genuine_squeezenet("1.1"), genuine("DATA")
    target = tmp_path / "small.net"
    compress_file(
        source, target, data / "ants_bees" / "train",
        size=700_000, images=48, seed=0, report=lambda _: None,
    )  # fmt: skip
    assert 690_000 < target.stat().st_size <= 700_000
    sample = data / "imagenet_sample"
    listing = str(sample / "val_list.txt")
    metrics = measure(target, source, sample / "images", listing, lambda _: None)
    # 141 before; 105 to 112 were measured with 128 images. Pruning v1.0 by magnitude leaves 46.
    assert metrics.images == 200
    assert metrics.top1 >= 85
    assert metrics.top5 >= 135
