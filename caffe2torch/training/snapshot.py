"""Snapshots of a training run: Caffe's caffemodel and solverstate, binary or HDF5."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from caffe2torch.errors import ArtefactError, NetError, ReadError
from caffe2torch.graph import FloatArray
from caffe2torch.io.arrays import write_array
from caffe2torch.io.atomic import atomic_group
from caffe2torch.io.blob import read_blob
from caffe2torch.io.fields import BYTES, VARINT, Fields
from caffe2torch.io.files import HDF5_SIGNATURE, open_file
from caffe2torch.io.hdf5 import new_hdf5, reader_of, write_hdf5
from caffe2torch.io.schema import message_class
from caffe2torch.io.write_caffemodel import MAX_BYTES, LayerBlobs, blob_head, write_layers

SUFFIX = {"BINARYPROTO": "", "HDF5": ".h5"}
"""What a snapshot_format adds to the names of its files."""


@dataclass(frozen=True)
class SolverState:
    """Where a solver stands (Caffe: SolverState in caffe.proto).

    ``iteration`` counts the updates, ``current_step`` the drops of the rate. ``history`` are the
    arrays that the update rule goes on with, in Caffe's shapes and order: one for each learned
    blob, and then, for rules that keep two, the second of each. ``learned_net`` is the name of
    the weights' file.
    """

    iteration: int
    current_step: int
    history: Sequence[FloatArray]
    learned_net: str = ""


def write_snapshot(
    prefix: str,
    state: SolverState,
    name: str,
    layers: Sequence[LayerBlobs],
    owned: Sequence[Sequence[int]],
    format: str = "BINARYPROTO",
) -> tuple[str, str]:
    """Write ``PREFIX_iter_N.caffemodel`` and ``.solverstate``, both or none; return their names.

    ``name`` is the net's; ``owned`` are, for each layer, the indices of the blobs that are
    not another layer's: an HDF5 file has those alone. Missing folders are made. Raises
    ArtefactError where a file cannot be written.
    """
    suffix = SUFFIX[format]
    model = f"{prefix}_iter_{state.iteration}.caffemodel{suffix}"
    path = f"{prefix}_iter_{state.iteration}.solverstate{suffix}"
    with atomic_group() as group:
        file = group.open(model)
        if format == "HDF5":
            write_hdf5(file, _owned(layers, owned))
            _write_hdf5_state(group.open(path), state, model)
        else:
            write_layers(file, model, name, layers)
            _write_state(group.open(path), state, model)
    return model, path


def newest_state(prefix: str) -> str | None:
    """The ``PREFIX_iter_N.solverstate`` (or ``.h5``) of the largest N, if there is one."""
    folder, name = os.path.split(prefix)
    form = re.compile(rf"{re.escape(name)}_iter_(\d+)\.solverstate(\.h5)?")
    try:
        found = [match for file in os.listdir(folder or ".") if (match := form.fullmatch(file))]
    except OSError as error:
        raise ReadError(f"cannot read the folder {folder}: {error.strerror}") from error
    newest = max(found, key=lambda match: int(match[1]), default=None)
    return newest and os.path.join(folder, newest[0])


def check_prefix(prefix: str) -> None:
    """Raise NetError unless files may be written under ``prefix``, as Caffe does at its start."""
    folder = Path(prefix).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        why = "may not be written" if folder.is_dir() else "is not there"
        raise NetError(
            f"snapshot_prefix is {prefix!r}, and the folder {str(folder)!r} {why}: make it, or "
            "choose another"
        )


def read_state(path: str | os.PathLike[str]) -> SolverState:
    """Read a solverstate, binary or HDF5. Raises ReadError for any other file."""
    name = os.fspath(path)
    data = open_file(name)
    if data[: len(HDF5_SIGNATURE)] == HDF5_SIGNATURE:
        return _read_hdf5_state(name)
    fields = Fields(data, name)
    known = message_class("SolverState").DESCRIPTOR.fields_by_number
    numbers: dict[str, int] = {}
    history: list[FloatArray] = []
    model = ""
    for item in fields.items(0, len(data)):
        field = known[item.number].name if item.number in known else ""
        if field == "history" and item.wire == BYTES:
            blob = read_blob(fields, item.value, item.end, f"history {len(history)}")
            history.append(np.array(blob.data, np.float32).reshape(blob.shape))
        elif field == "learned_net" and item.wire == BYTES:
            model = bytes(data[item.value : item.end]).decode("utf-8", "replace")
        elif field and item.wire == VARINT:
            numbers[field] = item.value
        elif not field:
            fields.fail(item.start, "this is no solverstate, or a damaged one")
    return SolverState(numbers.get("iter", 0), numbers.get("current_step", 0), history, model)


def learned_net(state: SolverState, path: str | os.PathLike[str]) -> Path:
    """The file of the weights that belong to a solverstate: as it says, or beside it."""
    if not state.learned_net:
        raise ReadError(f"{os.fspath(path)} names no weights: give them by --weights as well")
    given = Path(state.learned_net)
    for place in (given, Path(path).parent / given.name):
        if place.is_file():
            return place
    raise ReadError(
        f"{os.fspath(path)} belongs to the weights {state.learned_net!r}, which are neither there "
        "nor beside it; put them there"
    )


def _owned(
    layers: Sequence[LayerBlobs], owned: Sequence[Sequence[int]]
) -> list[tuple[str, dict[int, FloatArray]]]:
    named: dict[str, dict[int, FloatArray]] = {}
    for layer, indices in zip(layers, owned, strict=True):
        arrays = list(layer.arrays())
        named.setdefault(layer.proto.name, {}).update({i: arrays[i] for i in indices})
    return list(named.items())


def _write_state(file: BinaryIO, state: SolverState, model: str) -> None:
    size = 4 * sum(array.size for array in state.history)
    if size > MAX_BYTES:
        raise ArtefactError(
            f"the solver's state for {model} takes {size} bytes, and a binary one can have no more "
            f"than {MAX_BYTES}; set snapshot_format: HDF5"
        )
    message = message_class("SolverState")
    file.write(message(iter=state.iteration, learned_net=model).SerializeToString())
    for array in state.history:
        file.write(blob_head(array.shape, "SolverState", "history"))
        write_array(file, array)
    file.write(message(current_step=state.current_step).SerializeToString())


def _write_hdf5_state(file: BinaryIO, state: SolverState, model: str) -> None:
    text = model.encode()
    with new_hdf5(file) as content:
        content.create_dataset("iter", data=np.array([state.iteration], "<i4"))
        # A C string: Caffe reads up to the zero at its end.
        content.create_dataset("learned_net", data=np.array(text, f"S{len(text) + 1}"))
        content.create_dataset("current_step", data=np.array([state.current_step], "<i4"))
        history = content.create_group("history")
        for index, array in enumerate(state.history):
            history.create_dataset(str(index), data=np.ascontiguousarray(array, "<f4"))


def _read_hdf5_state(path: str) -> SolverState:
    h5py = reader_of(path)
    try:
        with h5py.File(path, "r") as file:
            history = file["history"]
            arrays = [_floats(history[str(index)]) for index in range(len(history))]
            model = np.asarray(file["learned_net"]).reshape(-1)[0]
            return SolverState(
                int(np.asarray(file["iter"]).reshape(-1)[0]),
                int(np.asarray(file["current_step"]).reshape(-1)[0]),
                arrays,
                model.decode() if isinstance(model, bytes) else str(model),
            )
    except (OSError, KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ReadError(f"{path}: is no solverstate, or a damaged one ({error})") from None


def _floats(dataset: Any) -> FloatArray:
    return np.asarray(dataset, np.float32)
