"""What the processes do that get killed: the real commands, each in a process of its own.

The processes are forked from a server that has imported torch already, so that a hundred of
them take a minute and not ten; a kill meets them as it meets any other.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from caffe2torch.io.checksum import sha256
from squeezenet.download import Manifest

PRELOADED = [
    "caffe2torch.api",
    "caffe2torch.lower.to_onnx",
    "squeezenet.train",
    "squeezenet.cli",
    "torch._dynamo",
]
"""Imported before the processes are forked. torch.optim imports torch._dynamo at its first use."""


def context() -> ForkServerContext:
    """The context of all processes here."""
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(PRELOADED)
    return chosen


def start(target: Callable[..., Any], *arguments: Any, log: Path) -> BaseProcess:
    """Start ``target`` in a process whose output goes to ``log``."""
    process = context().Process(target=_run, args=(log, target, arguments))
    process.start()
    return process


def _run(log: Path, target: Callable[..., Any], arguments: Sequence[Any]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for output in (1, 2):
        os.dup2(descriptor, output)
    target(*arguments)


def caffe2torch(*arguments: str) -> None:
    """The ``caffe2torch`` command."""
    from caffe2torch.cli import main

    main(arguments)


def squeezenet(*arguments: str) -> None:
    """The ``squeezenet`` command."""
    from squeezenet.cli import main

    main(arguments)


def load_pretrained(manifest: Manifest, cache: Path, url: str, answer: Path | None) -> None:
    """``load_pretrained`` of what ``manifest`` says is published; its digest goes to ``answer``."""
    import torch

    from squeezenet import weights

    torch.set_num_threads(1)
    os.environ["no_proxy"] = "127.0.0.1"
    os.environ["CAFFE2TORCH_SQUEEZENET_URL_BASE"] = url
    weights.read_manifest = lambda version: manifest  # type: ignore[attr-defined]
    model = weights.load_pretrained(manifest.version, cache_dir=cache)
    if answer is not None:
        answer.write_text(digest(model.state_dict()))


def digest(value: Any) -> str:
    """A checksum of nested containers of tensors and plain values."""
    return sha256(_parts(value))


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        for key in value:
            yield repr(key).encode()
            yield from _parts(value[key])
    elif isinstance(value, (list, tuple)):
        yield f"[{len(value)}]".encode()
        for item in value:
            yield from _parts(item)
    elif hasattr(value, "numpy"):
        yield f"{value.dtype}{tuple(value.shape)}".encode()
        yield value.contiguous().numpy().tobytes()
    else:
        yield repr(value).encode()
