"""Net.backward against genuine Caffe's, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from support import OF_LAYER, assert_close, genuine

import caffe2torch.pycaffe as caffe

CANCELLED = 4e-6
"""Absolute: what roundings leave of some hundred terms near 1 whose sum is 0."""


def test_the_corpus_of_gradients() -> None:
    folders = sorted(path.parent for path in genuine("SHARED", "gradients").glob("*/grad.npz"))
    assert len(folders) > 60
    wrong = {folder.name: found for folder in folders if (found := _differences(folder))}
    assert not wrong


def _differences(folder: Path) -> list[str]:
    """What is not as in Caffe: outputs, gradients of the inputs, gradients of learned blobs."""
    case = json.loads((folder / "case.json").read_text())
    phase = getattr(caffe, case["phase"])
    net = caffe.Net(str(folder / "net.prototxt"), phase)
    if (folder / "net.caffemodel").exists():
        net.copy_from(str(folder / "net.caffemodel"))
    found = []
    with np.load(folder / "grad.npz") as file:
        expected = dict(file)
    net.forward(**{k[3:]: v for k, v in expected.items() if k.startswith("in/")})
    for name, value in expected.items():
        if name.startswith("topdiff/"):
            net.blobs[name[8:]].diff[...] = value
    net.backward()
    for name, value in expected.items():
        kind, rest = name.split("/", 1)
        if kind == "out":
            actual = net.blobs[rest].data
        elif kind == "dbottom":
            actual = net.blobs[rest].diff
        elif kind == "dblob":
            layer, index = rest.rsplit("/", 1)
            actual = net.params[layer][int(index)].diff
        else:
            continue
        try:
            assert_close(actual, value, OF_LAYER, absolute=CANCELLED, what=name)
        except AssertionError as error:
            found.append(str(error))
    return found
