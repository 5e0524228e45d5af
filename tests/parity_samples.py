"""Nets, images and reports that several tests of the parity report use."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from support import CASES, recorded

SQUEEZENET = CASES / "net_squeezenet_v1_1"
HOSTILE = "<script>alert(1)</script>$\\frac{1}$&\"'\x01\n日本"
"""A blob's name that HTML, XML, mathtext and fonts stumble over."""


def write_images(folder: Path, count: int) -> None:
    """``count`` small pictures of noise, with the labels 0, 1, 2, ... in a val_list.txt."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:03}.png"), rng.integers(0, 256, (50, 60, 3), np.uint8))
    lines = (f"{index:03}.png {index % 20}\n" for index in range(count))
    (folder / "val_list.txt").write_text("".join(lines))


def write_hostile_net(folder: Path) -> Path:
    """A net whose name, layers and blobs carry HOSTILE."""
    name = HOSTILE.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    name = name.replace("\x01", "\\001")
    path = folder / "hostile.prototxt"
    path.write_text(
        f'name: "{name}" input: "{name} in" input_shape {{ dim: 2 dim: 6 }} '
        f'layer {{ name: "{name}" type: "TanH" bottom: "{name} in" top: "{name}" }} '
        f'layer {{ name: "prob" type: "Softmax" bottom: "{name}" top: "prob" }}',
        encoding="utf-8",
    )
    return path


def wrong_reference(folder: Path, blob: str) -> tuple[dict[str, np.ndarray], Path]:
    """Inputs of SQUEEZENET, and a record that is wrong at ``blob`` only."""
    inputs, outputs, middle = recorded(SQUEEZENET.name)
    record = outputs | middle
    record[blob] = record[blob] + np.float32(0.1) * np.abs(record[blob]).max()
    np.savez(folder / "wrong.npz", **record)
    return inputs, folder / "wrong.npz"
