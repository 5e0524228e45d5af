"""The nets that consumers are measured on, with inputs and what genuine Caffe made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import caffe2torch
from caffe2torch.graph import Array, Graph

ROOT = Path(__file__).resolve().parents[2]
NAMED = ("squeezenet_v1.0", "squeezenet_v1.1", "squeezenet_digits", "qr_sr", "qr_one")
"""Nets that are run as simplifiers leave them, too."""
IMAGES = 2
"""Images of the sample that a SqueezeNet is run on."""

Arrays = tuple[Mapping[str, Array], Mapping[str, Array]]


@dataclass(frozen=True)
class Net:
    """A net; ``arrays`` gives inputs and expected outputs of its graph, in the net's order."""

    name: str
    read: Callable[[], Graph]
    arrays: Callable[[Graph], Arrays]


def all_nets(cases: Path) -> list[Net]:
    """The nets recorded from Caffe that have outputs, and the SqueezeNets where they are found."""
    recorded = [_recorded(path.parent) for path in sorted(cases.glob("*/case.json"))]
    return [*(net for net in recorded if net is not None), *_squeezenets(), _digits()]


def _recorded(folder: Path) -> Net | None:
    facts = json.loads((folder / "case.json").read_text())
    if facts.get("expect", "ok") != "ok" or not (folder / "io.npz").exists():
        return None
    with np.load(folder / "io.npz") as file:
        if not any(key.startswith("out/") for key in file.files):
            return None

    def read() -> Graph:
        weights = facts.get("weights_file") or "net.caffemodel"
        if "wechat_qr" in weights:
            weights = Path(os.environ["CAFFE2TORCH_TEST_MODELS"], "wechat_qr", Path(weights).name)
        with working_in(folder):
            return caffe2torch.read(
                weights if Path(weights).exists() else None,
                "net.prototxt",
                phase=facts.get("phase", "TEST"),
                level=facts.get("level", 0),
                stages=facts.get("stages", ()),
                allow_missing=True,
            )

    def arrays(graph: Graph) -> Arrays:
        with np.load(folder / "io.npz") as file:
            inputs = {i.name: file[f"in/{i.name}"] for i in graph.inputs}
            return inputs, {name: file[f"out/{name}"] for name in graph.outputs}

    return Net(folder.name, read, arrays)


def without_spare_rows(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """``values`` without the rows of -1 that a fixed number of detections ends with."""
    free = {value: node.layer.free_axes for node in graph.nodes for value in node.outputs}
    found = dict(values)
    for name, array in values.items():
        if array.ndim == 4 and 2 in free.get(graph.blobs.get(name, name), ()):
            found[name] = array[:, :, array[0, 0, :, 0] != -1]
    return found


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Go to ``folder``, where a net's relative paths lead, and back."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _squeezenets() -> list[Net]:
    models = os.environ.get("CAFFE2TORCH_TEST_MODELS")
    reference = os.environ.get("CAFFE2TORCH_TEST_REFERENCE")
    data = os.environ.get("CAFFE2TORCH_TEST_DATA")
    if not models or not reference or not data:
        return []

    def net(name: str, weights: Path, prototxt: Path, key: str) -> Net:
        def arrays(graph: Graph) -> Arrays:
            from squeezenet import preprocess

            with np.load(Path(reference, "imagenet_sample_pool10.npz")) as file:
                names, (output,) = file["names"][:IMAGES], graph.outputs
                expected = file[key][:IMAGES].reshape(IMAGES, *graph.shapes[output][1:])
            folder = Path(data, "imagenet_sample", "images")
            images = np.stack([preprocess(folder / str(image)) for image in names])
            sized = graph.inputs[0]
            return {sized.name: images}, {output: expected}

        until = (key.rpartition("/")[2],)
        return Net(name, lambda: _read_for(weights, prototxt, until), arrays)

    return [
        *(
            net(
                f"squeezenet_v{version}",
                Path(models, f"squeezenet_v{version}", f"squeezenet_v{version}.caffemodel"),
                Path(models, f"squeezenet_v{version}", "deploy.prototxt"),
                f"squeezenet_v{version}/pool10",
            )
            for version in ("1.0", "1.1")
        ),
        net(
            "squeezenet_compressed",
            Path(models, "squeezenet_deep_compression", "compressed_SqueezeNet.net"),
            Path(models, "squeezenet_deep_compression", "SqueezeNet_deploy.prototxt"),
            "squeezenet_deep_compression/pool_final",
        ),
    ]


def _read_for(weights: Path, prototxt: Path, until: tuple[str, ...] = ()) -> Graph:
    """The net declared for as many images as it is run on, which a static form keeps."""
    from caffe2torch.lower.batch import with_batch

    return with_batch(caffe2torch.read(weights, prototxt, outputs=until), IMAGES)


def _digits() -> Net:
    """The sample model, of which there is no record: against its own torch module."""
    import torch

    from caffe2torch.lower.to_torch import to_torch

    model = ROOT / "models" / "squeezenet_digits.caffemodel"

    def arrays(graph: Graph) -> Arrays:
        rng = np.random.default_rng(0)
        feed = {i.name: rng.uniform(-1, 1, i.shape).astype(np.float32) for i in graph.inputs}
        with torch.no_grad():
            module = to_torch(graph)
            blobs = module.blobs({name: torch.from_numpy(x) for name, x in feed.items()})
        return feed, {name: blobs[name].numpy() for name in graph.outputs}

    return Net(
        "squeezenet_digits", lambda: _read_for(model, model.with_suffix(".prototxt")), arrays
    )
