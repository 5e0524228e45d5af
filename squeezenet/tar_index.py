"""The index of a tar file of samples, ``x.idx`` beside ``x.tar``.

Follows tools/wds2idx.py of NVIDIA's DALI, version 1.2: a line with the version and the number of
samples, then a line for each, four words a member: suffix, first byte, size, name.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from caffe2torch.errors import ReadError

VERSION = "v1.2"

Member = tuple[str, int, int]
"""A file in a tar file: its name, and where its content begins and how long that is, in bytes."""


def index_of(name: str) -> str:
    """The path or URL of the index of a tar file."""
    return name.removesuffix(".tar") + ".idx"


def index_text(samples: Iterable[Iterable[Member]]) -> bytes:
    """An index of samples, whose names hold no spaces and whose suffixes begin at the first dot."""
    lines = [
        " ".join(
            f"{name.rpartition('/')[2].partition('.')[2]} {start} {size} {name}"
            for name, start, size in sample
        )
        for sample in samples
    ]
    return "\n".join([f"{VERSION} {len(lines)}", *lines, ""]).encode()


def read_index(text: bytes, source: str) -> list[list[str]]:
    """The words of each sample's line.

    Raises ReadError, which names ``source``, for an index of another form, or that was cut short.
    """
    head, *lines = text.decode("utf-8", "surrogateescape").splitlines() or [""]
    samples = [line.split(" ") for line in lines]
    whole = (
        text.endswith(b"\n")
        and all(len(words) % 4 == 0 for words in samples)
        and all(map(str.isdecimal, chain.from_iterable(w[1::4] + w[2::4] for w in samples)))
    )
    if head.split(" ") != [VERSION, str(len(lines))] or not whole:
        raise ReadError(
            f"{source} is no whole index of version 1.2, whose names have no spaces: make it again"
        )
    return samples
