"""What is killed: for each kind, how to start it, the files before, and the files after."""

from __future__ import annotations

import dataclasses
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from caffe2torch.io.checksum import sha256
from crashing import work
from crashing.server import SlowServer, serve

if TYPE_CHECKING:
    from squeezenet.download import Manifest

OLD, NEW, NONE = "old", "new", "none"


class LostError(Exception):
    """A file is neither the whole old one nor a whole new one."""


class Case:
    """One kind of work that writes files into ``folder``.

    ``keeps`` are the names that the folder may hold after an undisturbed run.
    """

    name: str
    keeps: frozenset[str]
    file: str
    """The main file."""
    aimed = 0.75
    """The share of kills aimed at a write; the others fall anywhere in the process's life."""
    sending = False
    """Whether a server is just sending the file."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "out"
        self.log = root / "log.txt"
        root.mkdir(parents=True, exist_ok=True)

    def reset(self) -> None:
        """Bring the folder into the state before the work."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    @abstractmethod
    def start(self) -> BaseProcess:
        """Start the work."""

    @abstractmethod
    def found(self) -> str:
        """OLD, NEW or NONE: what the folder holds. Raises LostError for anything else."""


class Files(Case):
    """Work whose outcome is known to the byte: ``new`` takes the place of ``old``."""

    old: dict[str, bytes]
    new: dict[str, bytes]

    def reset(self) -> None:
        """Put the old files in place."""
        super().reset()
        for name, content in self.old.items():
            (self.folder / name).write_bytes(content)

    def found(self) -> str:
        """Which of the two all files are."""
        there = {p.name: p.read_bytes() for p in self.folder.iterdir() if p.name in self.keeps}
        if self.file not in there and self.file in self.old:
            # Readers fail without the main file; the old ones are to be had.
            left = {p.name for p in self.folder.iterdir() if "caffe2torch-old" in p.name}
            if any(name.startswith(self.file) for name in left):
                return NONE
        if all(there.get(name) == content for name, content in self.new.items()):
            return NEW
        if {name: there[name] for name in self.new if name in there} == self.old:
            return OLD
        sums = {name: _sha(content) for name, content in there.items()}
        raise LostError(f"{self.folder} holds neither the old nor the new files: {sums}")


class Convert(Files):
    """``caffe2torch convert`` over the conversion of another net."""

    def __init__(self, root: Path, suffix: str, megabytes: float) -> None:
        super().__init__(root)
        self.name, self.file = f"convert {suffix}", f"net{suffix}"
        self.keeps = frozenset({self.file})
        nets = [write_net(root / f"{value}.caffemodel", value, megabytes) for value in (1, 2)]
        self.sources = nets
        self.old, self.new = ({self.file: self._converted(net)} for net in nets)

    def _converted(self, net: Path) -> bytes:
        import caffe2torch

        out = net.with_name(self.file)
        caffe2torch.convert(net, out)
        return out.read_bytes()

    def start(self, source: int = 1) -> BaseProcess:
        """Start a conversion of the second net, or of the first."""
        arguments = ("convert", str(self.sources[source]), str(self.folder / self.file))
        return work.start(work.caffe2torch, *arguments, log=self.log)


class Pair(Files):
    """``squeezenet export`` to a caffemodel and its prototxt, over those of another net."""

    name, file = "pair", "net.caffemodel"
    keeps = frozenset({"net.caffemodel", "net.prototxt"})

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        both = []
        for number, version in enumerate(("1.0", "1.1")):
            model = write_squeezenet(root / str(number) / "net.caffemodel", version)
            both.append({path.name: path.read_bytes() for path in model.parent.iterdir()})
        self.old, self.new = both

    def start(self, source: int = 1) -> BaseProcess:
        """Start an export of the second net, or of the first."""
        weights = self.root / str(source) / "net.caffemodel"
        arguments = ("export", "--weights", str(weights), str(self.folder / self.file))
        return work.start(work.squeezenet, *arguments, log=self.log)


class Download(Files):
    """``load_pretrained`` into a cache whose file is damaged."""

    name, file = "download", "squeezenet_v1.1.caffemodel"
    aimed = 0.5

    def __init__(self, root: Path, server: SlowServer) -> None:
        super().__init__(root)
        self.server = server
        self.keeps = frozenset({self.file, f".{self.file}.lock"})
        self.new = {self.file: server.content}
        self.old = {self.file: server.content[:-1] + b"?"}
        self.manifest = manifest_of(server.content)

    @property
    def sending(self) -> bool:  # type: ignore[override]
        """Whether the server is just sending the file."""
        return self.server.sending.is_set()

    def start(self, answer: Path | None = None) -> BaseProcess:
        """Start a load."""
        arguments = (self.manifest, self.folder, self.server.url, answer)
        return work.start(work.load_pretrained, *arguments, log=self.log)


@contextmanager
def downloads(root: Path, seconds: float) -> Iterator[Download]:
    """The case with its server, which takes ``seconds`` to send the file."""
    # More classes than the published net has, so that a write takes long enough to be hit.
    path = write_squeezenet(root / "published" / "net.caffemodel", "1.1", num_classes=8000)
    with serve(path.read_bytes(), seconds) as server:
        yield Download(root, server)


class Snapshot(Case):
    """``squeezenet train``, going on from a checkpoint and writing one after each step."""

    name, file = "snapshot", "last.pt"
    keeps = frozenset({"last.pt", "best.pt", "log.jsonl"})
    first, last = 1, 4
    """Steps of the checkpoint that is there before, and of the last one."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.data = write_images(root / "data")
        self.begun = root / "begun"
        finish(self._train(self.first, self.begun), self.log)
        self.steps = {self.first: self._digest(self.begun / "last.pt")}
        # One run for each length: their last checkpoints are those that a longer run passes.
        self.reset()
        for step in range(self.first + 1, self.last + 1):
            finish(self._train(step, self.folder), self.log)
            self.steps[step] = self._digest(self.folder / "last.pt")

    def reset(self) -> None:
        """Put the first checkpoint in place."""
        super().reset()
        shutil.copy(self.begun / "last.pt", self.folder / "last.pt")

    def start(self) -> BaseProcess:
        """Start the training, from whatever checkpoint is there."""
        return self._train(self.last, self.folder)

    def found(self) -> str:
        """OLD or NEW, if last.pt is bit for bit the state after one of the steps."""
        content = self._digest(self.folder / "last.pt")
        if content not in self.steps.values():
            raise LostError(f"{self.folder / 'last.pt'}: of none of the steps")
        return NEW if content != self.steps[self.first] else OLD

    @property
    def is_complete(self) -> bool:
        """Whether last.pt is the state that an undisturbed run ends with."""
        return self._digest(self.folder / "last.pt") == self.steps[self.last]

    def _train(self, steps: int, out: Path) -> BaseProcess:
        settings = {
            "data": self.data, "out": out, "max-iter": steps, "batch-size": 2, "resize": 40,
            "crop": 33, "threads": 1, "workers": 0, "snapshot": 1, "eval-every": 1000,
            "schedule": "fixed", "device": "cpu", "lr": 0.0001,
        }  # fmt: skip
        if (out / "last.pt").exists():
            settings["init-from"] = out / "last.pt"
        arguments = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        return work.start(work.squeezenet, "train", *arguments, log=self.log)

    def _digest(self, path: Path) -> str:
        from squeezenet.checkpoint import load_checkpoint

        state = load_checkpoint(path)
        parts = ("step", "model", "optimiser", "random")
        return work.digest([state[part] for part in parts])


def finish(process: BaseProcess, log: Path) -> None:
    """Wait for a process; LostError if it fails."""
    process.join()
    if process.exitcode:
        raise LostError(f"an undisturbed run ended with {process.exitcode}: {log.read_text()}")


def write_net(path: Path, value: float, megabytes: float) -> Path:
    """Write a caffemodel of one InnerProduct layer, all of whose weights are ``value``."""
    import caffe2torch
    from caffe2torch.io.write_caffemodel import write_caffemodel

    inputs = max(1, round(megabytes * 250))
    text = (
        f'input: "x" input_shape {{ dim: 2 dim: {inputs} }} layer {{ name: "ip" bottom: "x" '
        'top: "y" type: "InnerProduct" inner_product_param { num_output: 1000 weight_filler { '
        f'type: "constant" value: {value} }} bias_filler {{ type: "constant" }} }} }}'
    )
    prototxt = path.with_suffix(".prototxt")
    prototxt.write_text(text)
    write_caffemodel(caffe2torch.read(prototxt=prototxt), path)
    return path


def write_squeezenet(path: Path, version: str, num_classes: int = 1000) -> Path:
    """Write the caffemodel, and beside it the prototxt, of a seeded SqueezeNet."""
    import torch

    from squeezenet import SqueezeNet
    from squeezenet.export import export
    from squeezenet.preprocess import Transform

    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    export(SqueezeNet(version, num_classes=num_classes), Transform(), path)
    return path


def write_images(root: Path) -> Path:
    """Write two images for training and one for validation, of each of two classes."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for name in ("train/a/0", "train/a/1", "train/b/0", "train/b/1", "val/a/0", "val/b/0"):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (48, 40, 3), np.uint8))
    return root


def manifest_of(content: bytes) -> Manifest:
    """A manifest that says ``content`` is the published SqueezeNet 1.1."""
    from squeezenet.download import read_manifest

    checksums = {"sha256": sha256([content])}
    return dataclasses.replace(read_manifest("1.1"), size=len(content), checksums=checksums)


def _sha(content: bytes) -> str:
    return f"{len(content)} bytes, sha256 {sha256([content])[:12]}"
