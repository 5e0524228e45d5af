"""Where the images of a run come from: a list, a tree of class folders, or an LMDB."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caffe2torch.errors import ReadError
from caffe2torch.images import read_list, scan_folders
from squeezenet.data import FileSource, ImageSource
from squeezenet.lmdb_data import LmdbSource, is_lmdb


@dataclass(frozen=True)
class Split:
    """The images of one split, with what the source says about its classes."""

    source: ImageSource
    num_classes: int | None
    class_names: tuple[str, ...] = ()


def open_split(data: Path, listing: str | None, name: str) -> Split:
    """The split that ``listing`` names: a list of paths below ``data``, a tree, or an LMDB.

    Without a listing it is the folder or LMDB ``data/name``, or ``data`` itself if that has
    no such folder.
    """
    if listing is None:
        inside = data / name
        return _open(inside if inside.exists() else data, data)
    beside = data / listing
    return _open(beside if beside.exists() and not Path(listing).exists() else Path(listing), data)


def _open(path: Path, root: Path) -> Split:
    if is_lmdb(path):
        return Split(LmdbSource(path), None)
    if path.is_file():
        samples = read_list(path, root)
        return Split(FileSource(samples), 1 + max(sample.label or 0 for sample in samples))
    if not path.exists():
        raise ReadError(f"there is no {path}: give a list, a tree of class folders or an LMDB")
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
        raise ReadError("an LMDB does not say how many classes it has: give --num-classes")
    return train.num_classes
