"""The five best classes of each image, engine by engine, for as many images as fit a page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from caffe2torch.compare import ranked
from caffe2torch.graph import Array, Graph

if TYPE_CHECKING:
    from caffe2torch.parity.inputs import Batch

LISTED = 50
"""The first images that are listed; as many later ones whose best class differs follow."""


@dataclass(frozen=True)
class ImageRow:
    """One image, or item of other input: (class, logit) pairs by engine, best first.

    ``index`` counts from 0 in the order of the inputs. ``path`` is the image's file.
    """

    index: int
    name: str
    label: int | None
    path: str | None
    engines: Mapping[str, Sequence[tuple[int, float]]]

    @property
    def same(self) -> bool:
        """Whether all engines have the same best class."""
        return len({row[0][0] for row in self.engines.values()}) <= 1


@dataclass
class TopFive:
    """Gathers the rows to list; ``seen`` counts all items."""

    rows: list[ImageRow] = field(default_factory=list)
    seen: int = 0
    omitted_differing: int = 0

    def add(self, batch: Batch, logits: Mapping[str, Array]) -> None:
        """Take the logits (N, classes) of one batch by engine into account."""
        best = {name: ranked(array) for name, array in logits.items()}
        count = min((len(rows) for rows in best.values()), default=0)
        for item in range(count):
            self._add(_row(batch, self.seen + item, item, best, logits))
        self.seen += count

    def _add(self, row: ImageRow) -> None:
        if len(self.rows) < LISTED or (not row.same and len(self.rows) < 2 * LISTED):
            self.rows.append(row)
        elif not row.same:
            self.omitted_differing += 1


def _row(
    batch: Batch, index: int, item: int, best: Mapping[str, Array], logits: Mapping[str, Array]
) -> ImageRow:
    path = batch.paths[item] if batch.paths else None
    engines = {}
    for name, rows in best.items():
        scores = logits[name][item].reshape(-1)
        engines[name] = [(int(c), float(scores[c])) for c in rows[item]]
    return ImageRow(
        index,
        batch.names[item] if batch.names else f"input {index + 1}",
        batch.labels[item] if batch.labels else None,
        None if path is None else os.fspath(path),
        engines,
    )


def has_classes(graph: Graph, blob: str) -> bool:
    """Whether ``blob`` holds one score for each class: (N, classes), or (N, classes, 1, 1)."""
    shape = graph.shapes[graph.blobs[blob]]
    first = graph.inputs[0].shape if graph.inputs else ()
    return len(shape) >= 2 and shape[1] > 1 and prod(shape[2:]) == 1 and shape[:1] == first[:1]
