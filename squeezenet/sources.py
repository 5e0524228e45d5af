"""Where labelled images come from: files, class folders, LMDBs and tar files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from caffe2torch.data.lmdb import LmdbSource, is_lmdb
from caffe2torch.errors import ReadError
from caffe2torch.images import (
    Decoder,
    ImageList,
    Sample,
    decode_image,
    read_bytes,
    read_list,
    scan_folders,
)
from caffe2torch.training.distributed import ALONE, Team
from squeezenet.shards import ShardSource, expand


class ImageSource(Protocol):
    """Labelled images by index; ``read`` raises ImageError for one that cannot be used."""

    def __len__(self) -> int:
        """The number of images, bad ones included."""

    def read(self, index: int, decode: Decoder = decode_image) -> tuple[Any, int]:
        """The image as uint8 (H, W, 3), blue first, and its label.

        ``decode`` makes it of a file's bytes; where a source has pixels it does nothing.
        """

    def where(self, index: int) -> str:
        """What a user needs to find the image: its path, and its line in the list."""


class FileSource:
    """Images in files of their own."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int, decode: Decoder = decode_image) -> tuple[Any, int]:
        """The image, made by ``decode`` of its file, and its label."""
        sample = self.samples[index]
        assert sample.label is not None  # Lists and folders give one.
        where = self.where(index)
        return decode(read_bytes(sample.path, where), where), sample.label

    def where(self, index: int) -> str:
        """The path, and ``list:line`` if a list names it."""
        sample = self.samples[index]
        return f"{sample.path} ({sample.line})" if sample.line else str(sample.path)


@dataclass(frozen=True)
class Split:
    """The images of one split, with what the source says about its classes."""

    source: ImageSource
    num_classes: int | None
    class_names: tuple[str, ...] = ()


def open_split(data: Path, listing: str | None, name: str, team: Team = ALONE) -> Split:
    """The split that ``listing`` names: a list of paths below ``data``, a tree, LMDB or tar files.

    Without a listing it is the folder or LMDB ``data/name``, or ``data`` itself if that has
    no such folder. The processes of a ``team`` open it together.
    """
    if (shards := listing or str(data)).endswith(".tar"):
        names = expand(shards)
        below = [str(data / name) for name in names]
        return Split(ShardSource(below if os.path.exists(below[0]) else names, team), None)
    if listing is None:
        inside = data / name
        return _open(inside if inside.exists() else data, data)
    beside = data / listing
    return _open(beside if beside.exists() and not Path(listing).exists() else Path(listing), data)


def open_files(data: Path, listing: str | None) -> ImageList:
    """The image files that ``listing`` names as for ``open_split``, or the tree ``data``."""
    source = open_split(data, listing, ".").source
    if not isinstance(source, FileSource) or not isinstance(source.samples, ImageList):
        raise ReadError(
            f"{listing or data} holds images that are no files: give a list or a tree of class "
            "folders"
        )
    return source.samples


def _open(path: Path, root: Path) -> Split:
    if is_lmdb(path):
        return Split(LmdbSource(path), None)
    if path.is_file():
        samples = read_list(path, root)
        if not any(os.path.isfile(sample.path) for sample in samples):
            raise ReadError(
                f"none of the {len(samples)} images that {path} names exists, such as "
                f"{samples[0].path}: its paths begin at --data, now {root}"
            )
        return Split(FileSource(samples), 1 + int(samples.labels.max()))
    if not path.exists():
        raise ReadError(f"there is no {path}: give a list, a tree of class folders or an LMDB")
    if (path / "CURRENT").is_file() and any(path.glob("MANIFEST-*")):
        raise ReadError(
            f"{path} is a LevelDB, which is not read: make an LMDB of the same images, as Caffe's "
            "convert_imageset --backend lmdb does, or give a list or a tree of class folders"
        )
    samples, classes = scan_folders(path)
    return Split(FileSource(samples), len(classes), tuple(classes))


def count_classes(train: Split, val: Split | None, asked: int | None) -> int:
    """The number of classes: what was asked for, or what the training images show."""
    if val is not None and train.class_names and val.class_names:
        strange = sorted(set(val.class_names) ^ set(train.class_names))
        if strange:
            raise ReadError(
                f"the training and validation trees differ in the class folders {strange}"
            )
    if asked is not None:
        return asked
    if train.num_classes is None:
        raise ReadError(
            "an LMDB or tar files do not say how many classes there are: give --num-classes"
        )
    return train.num_classes
