"""Training state on disk: everything that a resumed run needs to go on as if never stopped."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from caffe2torch.errors import ArtefactError, ReadError
from caffe2torch.io.atomic import atomic_write

FORMAT = "squeezenet checkpoint"
VERSION = 1
_DAMAGED = (OSError, RuntimeError, pickle.UnpicklingError, ValueError, LookupError, EOFError)
"""What torch raises for a ZIP file that it did not write, or that was cut short."""


_NOT_ONE = (
    "{} is not a checkpoint: it is damaged or of another kind; "
    "'squeezenet train' writes last.pt and best.pt"
)


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
    if not _is_zip(path):
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except _DAMAGED:
        return False
    return isinstance(state, dict) and state.get("format") == FORMAT


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint without running any code that a file could carry."""
    if not _is_zip(path):
        raise ReadError(_NOT_ONE.format(path))
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except _DAMAGED as error:
        raise ReadError(_NOT_ONE.format(path)) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ReadError(
            f"{path} holds no training state: --init-from needs a last.pt or best.pt that "
            "'squeezenet train' wrote; other weights go to --pretrained"
        )
    if state["version"] != VERSION:
        raise ReadError(
            f"{path} is a checkpoint of version {state['version']}; this one reads {VERSION}"
        )
    return state


def _is_zip(path: Path) -> bool:
    """Whether a file is of torch's container format; its older one is read by nothing here."""
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError as error:
        raise ReadError(f"cannot read {path}: {error.strerror or error}") from error
