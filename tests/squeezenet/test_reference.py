"""The genuine weights against what the genuine Caffe computed for the sample images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import genuine, genuine_squeezenet

from squeezenet import load_pretrained, preprocess
from squeezenet.download import read_manifest

TOLERANCE = 1e-3
"""Absolute, on logits of up to 34: room for sums in another order, not for another sum."""

BATCH = 25


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_logits_and_accuracy_of_the_sample_images(version: str) -> None:
    sample = genuine("DATA", "imagenet_sample")
    reference = np.load(genuine("REFERENCE", "imagenet_sample_pool10.npz"))
    lines = (sample / "val_list.txt").read_text().split("\n")
    label_of = dict(line.split() for line in lines if line)
    names = [str(name) for name in reference["names"]]
    labels = np.array([int(label_of[name]) for name in names])
    model = load_pretrained(version, genuine_squeezenet(version))

    logits = np.concatenate(
        [
            infer(model, [sample / "images" / name for name in names[start : start + BATCH]])
            for start in range(0, len(names), BATCH)
        ]
    )

    expected = reference[f"squeezenet_v{version}/pool10"].reshape(len(names), -1)
    assert np.abs(logits - expected).max() <= TOLERANCE
    ranked = np.argsort(-logits, axis=1, kind="stable")
    np.testing.assert_array_equal(ranked[:, 0], expected.argmax(1))
    accuracy = read_manifest(version).accuracy
    assert len(names) == accuracy["count"]
    assert (ranked[:, 0] == labels).sum() == accuracy["top1"]
    assert (ranked[:, :5] == labels[:, None]).any(1).sum() == accuracy["top5"]


@torch.inference_mode()
def infer(model: torch.nn.Module, paths: list[Path]) -> np.ndarray:
    batch = torch.from_numpy(np.stack([preprocess(path) for path in paths]))
    return model(batch).numpy()
