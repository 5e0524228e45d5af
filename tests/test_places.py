"""Every refusal of a prototxt says where in it: file, line and column of the field or the layer."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import CASES, genuine

import caffe2torch
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.lower.to_onnx import to_onnx
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.pipeline import State, build_graph

NET = """name: "n"
# layer { name: "a" }
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "a"  # A comment: with { and "quotes.
  type: 'Pooling' bottom: "x" top: "y"
  pooling_param { kernel_size: 3
    stride: 2 pad: 4 }
}
"""


def faults(nets: Iterator[tuple[str, str, str]], lower: bool = True) -> tuple[int, list[str]]:
    """How many of the nets (name, text, phase) are refused, and those without a right place.

    ``lower`` says whether they are given values and lowered after they are read.
    """
    refused, wrong = 0, []
    for name, text, phase in nets:
        error = refusal(text.encode(), phase, lower)
        if error is None:
            continue
        refused += 1
        message = str(error)
        place = re.match(r"the buffer:(\d+):(\d+): ", message)
        lines = [*text.split("\n"), ""]
        if place is None:
            wrong.append(f"{name}: no place: {message[:200]}")
            continue
        here = lines[int(place[1]) - 1][int(place[2]) - 1 :]
        words = ("layer", "layers", "input", *(error.field or "").split("."))
        # A net's own faults are told at its beginning, unknown fields where they stand.
        is_there = here.startswith(words) or f"column {place[2]})" in message
        if error.layer is not None and not is_there:
            wrong.append(f"{name}: {message[:200]} | {here[:40]}")
    return refused, wrong


def refusal(prototxt: bytes, phase: str, lower: bool) -> caffe2torch.Caffe2TorchError | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", caffe2torch.Caffe2TorchWarning)
        try:
            if lower:
                graph = caffe2torch.read(None, prototxt, phase=phase, allow_missing=True)
                to_torch(graph)
                to_onnx(graph)
            else:
                build_graph(read_prototxt(prototxt), state=State(phase))
        except caffe2torch.Caffe2TorchError as error:
            return error
    return None


def recorded(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(folder.glob("*/case.json")):
        case = json.loads(path.read_text())
        if case["expect"] == "error":
            yield path.parent.name, (path.parent / "net.prototxt").read_text(), case["phase"]


def zipped(path: Path) -> Iterator[tuple[str, str, str]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith("prototxt"):
                text = io.TextIOWrapper(archive.open(name), "utf-8", "replace", newline="").read()
                yield name, text, "TEST"


def test_recorded_refusals() -> None:
    refused, wrong = faults(recorded(CASES))
    assert refused > 15
    assert not wrong, "\n".join(wrong)


def test_refusals_of_random_nets(tmp_path: Path) -> None:
    with zipfile.ZipFile(genuine("SHARED", "fuzz", "nets.zip")) as archive:
        archive.extractall(tmp_path)
    refused, wrong = faults(recorded(tmp_path))
    assert refused > 250
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_refusals_of_nets_of_the_world() -> None:
    refused, wrong = faults(zipped(genuine("SHARED", "wild", "nets.zip")), lower=False)
    assert refused > 50
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("", "", "8:15: layer 'a' (Pooling), pad: "),
        ("pad: 4", "pad_h: 4 pad_w: 0", "4:1: layer 'a' (Pooling), pad: "),
        ('"x" top: "y"', '["x"]', "4:1: layer 'a' (Pooling), top: has 0 tops"),
        ('bottom: "x"', 'bottom: ["x", "z"]', "6:19: layer 'a' (Pooling), bottom: "),
        ('"Pooling"', '"Pool"', "8:15: "),
        ("pad: 4", "pads: 4", "8:15: layer 'a' (Pooling): unknown parameter"),
        ("layer {\n", "layer: <\n", "8:15: "),
    ],
)
def test_the_place_is_that_of_the_field(tmp_path: Path, old: str, new: str, place: str) -> None:
    text = NET.replace(old, new)
    if "<" in text:
        text = text.replace("pad: 4 }\n}", "pad: 4 }\n>")
    (tmp_path / "n.prototxt").write_text(text)
    with pytest.raises(caffe2torch.Caffe2TorchError) as caught:
        caffe2torch.read(None, tmp_path / "n.prototxt")
    assert str(caught.value).startswith(f"{tmp_path / 'n.prototxt'}:{place}")
    assert caught.value.place == f"{tmp_path / 'n.prototxt'}:{place.split(': ')[0]}"
