"""What is fed: for each reader its seeds, its damage, and the whole path that a file takes."""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzzing import seeds
from fuzzing.mutate import TEXTS, damage_bytes, damage_message, damage_text
from fuzzing.nets import check_optimized, random_net

MAX_INPUT = 64 << 10
"""Bytes: damage that repeats could make an input grow without end."""
OTHER_KINDS = 0.03
"""Of all inputs are made from files that no reader is for."""
MAX_FILLED = 1 << 22
"""Values that fillers may make up in place of missing weights; users may have 2**29."""


@dataclass(frozen=True)
class Target:
    """One reader: ``run`` takes the file's path and whether to lower what was read.

    ``share`` of all inputs go to it; ``suffix`` is that of the file.
    """

    share: int
    suffix: str
    load: Callable[[Path], Sequence[Any]]
    damage: Callable[[Any, Sequence[Any], Random], Any]
    run: Callable[[Path, Any, bool], None]


def prepare() -> None:
    """Import what the targets need, so that no input pays for it, and lower the limits."""
    import onnx
    import torch

    import caffe2torch.layers
    from caffe2torch.passes import attach_weights

    assert onnx
    torch.set_num_threads(1)
    caffe2torch.layers.all_layers()
    attach_weights.MAX_FILLED = MAX_FILLED


def _plain(seed: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    return damage_bytes(seed, others, rng)


def _text(seed: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    if rng.random() < 0.2:
        return damage_bytes(seed, others, rng)
    if rng.random() < 0.6:
        return _as_message(seed, others, rng) or damage_bytes(seed, others, rng)
    text = seed.decode("utf-8", "replace")
    other = rng.choice(others).decode("utf-8", "replace")
    return damage_text(text, [other], rng).encode("utf-8", "replace")


def _fork_text(seed: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """A net of forks, now and then as an old one (V1), and in another encoding."""
    text = seed.decode()
    if rng.random() < 0.2:
        old = re.sub(r'type: "(\w+)"', lambda kind: f"type: {kind[1].upper()}", text)
        text = old.replace("layer {", "layers {")
    data = text.encode()
    if rng.random() < 0.8:
        data = damage_text(text, [rng.choice(others).decode()], rng).encode("utf-8", "replace")
    if rng.random() < 0.3:
        encoding = rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"))
        data = data.decode("utf-8", "replace").encode(encoding, "replace")
        data = damage_bytes(data, [data], rng) if rng.random() < 0.5 else data
    return data


def _as_message(seed: bytes, others: Sequence[bytes], rng: Random) -> bytes | None:
    from google.protobuf import text_format

    net, other = _parsed(seed), _parsed(rng.choice(others))
    if net is None or other is None:
        return None
    copy = type(net)()
    copy.CopyFrom(net)
    damage_message(copy, [other], rng)
    printed: str = text_format.MessageToString(copy)
    return printed.encode("utf-8", "replace")


@cache
def _parsed(text: bytes) -> Any:
    from caffe2torch.errors import Caffe2TorchError
    from caffe2torch.io.prototxt import parse_prototxt

    try:
        return parse_prototxt(text.decode("utf-8", "replace"))
    except Caffe2TorchError:
        return None


def _binary_net(seed: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    from google.protobuf.message import DecodeError

    from caffe2torch.io.schema import message_class

    if rng.random() < 0.5:
        return damage_bytes(seed, others, rng)
    net, other = (message_class("NetParameter")() for _ in range(2))
    try:
        net.ParseFromString(seed)
        other.ParseFromString(rng.choice(others))
    except DecodeError:
        return damage_bytes(seed, others, rng)
    damage_message(net, [other], rng)
    return bytes(net.SerializeToString())


def _changed_metadata(header: str, rng: Random) -> str:
    """The header with another value in its metadata, or another definition of the net."""
    parsed = json.loads(header)
    metadata = json.loads(parsed["__metadata__"]["caffe2torch"])
    key = rng.choice((*metadata, "definition", "definition", "definition"))
    if key == "definition":
        text = metadata[key].encode()
        metadata[key] = (_as_message(text, [text], rng) or text).decode("utf-8", "replace")
    else:
        metadata[key] = rng.choice((None, 0, -1, 10**9, 1e308, "x", [], {}, [[]], {"a": None}))
    parsed["__metadata__"]["caffe2torch"] = json.dumps(metadata)
    return json.dumps(parsed)


def _pair(
    seed: tuple[Path, Path], others: Sequence[tuple[Path, Path]], rng: Random
) -> tuple[bytes, Path]:
    """Damaged weights for a sound net."""
    text, weights = seed
    other = rng.choice(others)[1].read_bytes()
    damage = _plain if weights.suffix in (".h5", ".net") else _binary_net
    return damage(weights.read_bytes(), [other], rng), text


def _archive(seed: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """A ZIP archive with damage in one of its files, as damage to the whole seldom gets in."""
    if rng.random() < 0.3:
        return damage_bytes(seed, others, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(seed)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        hit = rng.choice(names[:1] if rng.random() < 0.6 else names)
        for name in names:
            data = old.read(name)
            if name == hit:
                data = damage_bytes(data, [data], rng)
            if name != hit or rng.random() < 0.9:
                new.writestr(name, data)
    return damage_bytes(out.getvalue(), others, rng) if rng.random() < 0.1 else out.getvalue()


def _safetensors(seed: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Damage in the header's text, whose length is kept right."""
    if rng.random() < 0.3:
        return damage_bytes(seed, others, rng)
    end = 8 + int.from_bytes(seed[:8], "little")
    header = seed[8:end].decode()
    if rng.random() < 0.6:
        header = _changed_metadata(header, rng)
    elif rng.random() < 0.5:
        header = damage_text(header, [header], rng)
    else:
        at = rng.randrange(len(header))
        header = header[:at] + rng.choice(TEXTS) + header[at + rng.choice((0, 1, 3)) :]
    new = header.encode("utf-8", "replace")
    return len(new).to_bytes(8, "little") + new + seed[end:]


def _net(path: Path, extra: Any, deep: bool) -> None:
    import caffe2torch

    if deep:
        _convert(caffe2torch.read(path, extra, allow_missing=True), path)
    else:
        caffe2torch.read(path, extra)


def _prototxt(path: Path, extra: Any, deep: bool) -> None:
    import caffe2torch

    if deep:
        _convert(caffe2torch.read(None, path, allow_missing=True), path)
    else:
        caffe2torch.read(None, path)


def _until(path: Path, extra: Any, deep: bool) -> None:
    """The net up to some of the blobs that its text names."""
    import caffe2torch

    named = re.findall(rb'(?:top|bottom): *"([^"]*)"', path.read_bytes())
    blobs = [name.decode("utf-8", "replace") for name in named]
    graph = caffe2torch.read(None, path, allow_missing=True, outputs=blobs[-1:] + blobs[:deep])
    if deep:
        _convert(graph, path)


def _convert(graph: Any, path: Path) -> None:
    """The graph as every kind of file; small ones, or the disk would be measured."""
    from caffe2torch.artefact.write import write_graph
    from caffe2torch.lower.to_onnx import to_onnx
    from caffe2torch.lower.to_torch import to_torch
    from caffe2torch.summary import summary

    summary(graph)
    if sum(array.size for array in graph.params.values()) > MAX_FILLED:
        return
    to_torch(graph)
    to_onnx(graph)
    if sum(array.size for array in graph.params.values()) < 10**5:
        out = path.with_suffix(".out.safetensors")
        write_graph(graph, out)
        out.unlink()


def _artefact(path: Path, extra: Any, deep: bool) -> None:
    import caffe2torch
    from squeezenet.weights import load_weights

    if deep:
        load_weights(path)
    else:
        caffe2torch.read(path)


def _mean(path: Path, extra: Any, deep: bool) -> None:
    from caffe2torch.io.blob import read_mean

    read_mean(path)


def _solver(path: Path, extra: Any, deep: bool) -> None:
    from squeezenet.solver import read_solver

    read_solver(path)


def _list(path: Path, extra: Any, deep: bool) -> None:
    from caffe2torch.images import read_list

    read_list(path, path.parent)


def _checkpoint(path: Path, extra: Any, deep: bool) -> None:
    from squeezenet.checkpoint import is_checkpoint, load_checkpoint

    if deep:
        is_checkpoint(path)
    load_checkpoint(path)


def _onnx(path: Path, extra: Any, deep: bool) -> None:
    from squeezenet.classifier import _read_model, _recorded_transform, _without_softmax

    model = _read_model(path.read_bytes(), path)
    _recorded_transform(model, path)
    _without_softmax(model, path)  # What ONNX Runtime makes of a valid model is not ours.


@cache
def _reference_graph() -> Any:
    import caffe2torch

    return caffe2torch.read(None, seeds.CASES / "relu" / "net.prototxt")


def _reference(path: Path, extra: Any, deep: bool) -> None:
    from caffe2torch.engines.reference import ReferenceEngine

    engine = ReferenceEngine(path, _reference_graph(), None)
    if deep:
        import numpy as np

        engine.run({"data": np.zeros((1, 2), np.float32)})


TARGETS = {
    "caffemodel": Target(20, ".caffemodel", lambda _: seeds.caffemodels(), _binary_net, _net),
    "weights": Target(20, ".caffemodel", lambda _: seeds.with_weights(), _pair, _net),
    "prototxt": Target(25, ".prototxt", lambda _: seeds.prototxts(), _text, _prototxt),
    "fork": Target(15, ".prototxt", lambda _: seeds.forks(), _fork_text, _prototxt),
    "until": Target(10, ".prototxt", lambda _: seeds.forks(), _fork_text, _until),
    "fork_binary": Target(12, ".caffemodel", seeds.fork_caffemodels, _plain, _net),
    "hdf5": Target(7, ".h5", lambda _: seeds.hdf5(), _pair, _net),
    "compressed": Target(4, ".net", seeds.compressed, _pair, _net),
    "onnx": Target(3, ".onnx", lambda f: seeds.artefacts(f, ".onnx"), _plain, _onnx),
    "mean": Target(4, ".mean", lambda _: seeds.means(), _plain, _mean),
    "solver": Target(3, ".prototxt", lambda _: seeds.solvers(), _text, _solver),
    "list": Target(3, ".txt", lambda _: seeds.lists(), _plain, _list),
    "safetensors": Target(
        4, ".safetensors", lambda f: seeds.artefacts(f, ".safetensors"), _safetensors, _artefact
    ),
    "pt": Target(4, ".pt", lambda f: seeds.artefacts(f, ".pt"), _archive, _artefact),
    "checkpoint": Target(2, ".pt", seeds.checkpoints, _archive, _checkpoint),
    "reference": Target(2, ".npz", lambda _: seeds.references(), _archive, _reference),
    "optimize": Target(
        1, ".prototxt", lambda _: [random_net(Random(n)) for n in range(3)],
        lambda _, __, rng: random_net(rng),
        check_optimized,
    ),
}  # fmt: skip


class Corpus:
    """Inputs by number: the same number of the same seed is the same input, always."""

    def __init__(self, seed: int, names: Sequence[str], folder: Path) -> None:
        self.seed = seed
        self.names = [name for name in names for _ in range(TARGETS[name].share)]
        self.seeds = {name: TARGETS[name].load(folder) for name in names}

    def input(self, number: int) -> tuple[str, bytes, Any, bool]:
        """The reader, the file's bytes, what goes with the file, and whether to lower it."""
        rng = Random(f"{self.seed}:{number}")
        name = rng.choice(self.names)
        sound = self.seeds[name]
        if rng.random() < OTHER_KINDS:
            data = damage_bytes(rng.choice(seeds.OTHER_KINDS), seeds.OTHER_KINDS, rng)
            return name, data, None, rng.random() < 0.5
        made: Any = TARGETS[name].damage(rng.choice(sound), sound, rng)
        data, extra = made if isinstance(made, tuple) else (made, None)
        return name, data[:MAX_INPUT], extra, rng.random() < 0.5


def feed(name: str, data: bytes, extra: Any, deep: bool, path: Path) -> bool:
    """Write ``data`` to ``path`` and run the reader on it; whether it was accepted.

    Any error but ours goes through to the caller.
    """
    from caffe2torch.errors import Caffe2TorchError

    path.unlink(missing_ok=True)  # A new file: arrays of the last may still be mapped.
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            TARGETS[name].run(path, extra, deep)
        except Caffe2TorchError as error:
            str(error).encode()
            return False
    return True
