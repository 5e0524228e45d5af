"""What a training run leaves on disk: all that a resumed run needs to go on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from caffe2torch.artefact.torch_file import load_torch
from caffe2torch.errors import ArtefactError, ReadError, first_line
from caffe2torch.io.atomic import atomic_write

FORMAT = "squeezenet checkpoint"
VERSION = 1
CONTENT_ERRORS = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)
"""What may come of values that a file holds in place of those that belong there."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Killed at any moment, the old checkpoint or the new one is there.
    """
    make_folder(path.parent)
    with atomic_write(path) as file:
        torch.save({"format": FORMAT, "version": VERSION, **state}, file)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, as far as they lack."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtefactError(f"cannot make the folder {path}: {error.strerror}") from error


def is_checkpoint(path: Path) -> bool:
    """Whether a file is one that ``save_checkpoint`` wrote, of any version."""
    state = _read(path, mmap=True)
    return isinstance(state, dict) and state.get("format") == FORMAT


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that a file could carry."""
    state = _read(path)
    if state is None:
        raise ReadError(
            f"{path} is not a checkpoint: it is damaged or of another kind; "
            "'squeezenet train' writes last.pt and best.pt"
        )
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ReadError(
            f"{path} holds no training state: --init-from needs a last.pt or best.pt that "
            "'squeezenet train' wrote; other weights go to --pretrained"
        )
    if state.get("version") != VERSION:
        raise ReadError(
            f"{path} is a checkpoint of version {state.get('version')!r}; this one reads {VERSION}"
        )
    return state


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Around the use of a checkpoint's content: an error of it becomes one of the file."""
    try:
        yield
    except CONTENT_ERRORS as error:
        raise ReadError(
            f"{path} is a checkpoint, but what it holds is not what belongs there "
            f"({type(error).__name__}: {first_line(error)}); it is damaged, or of another version"
        ) from error


def _read(path: Path, *, mmap: bool = False) -> Any:
    """The content of a file of torch's container format; None if it is damaged or of another.

    Torch's older format is read by nothing here.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return load_torch(path, mmap=mmap) if is_zip else None
    except ReadError:
        return None
