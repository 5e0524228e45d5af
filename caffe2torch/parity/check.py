"""Run every engine on the same input and judge whether they agree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING

from caffe2torch.compare import Score
from caffe2torch.engines import Blobs, Engine, Job, PathLike, engine_names, start_engines
from caffe2torch.engines.reference import REFERENCE, ReferenceEngine
from caffe2torch.errors import EngineError, ParityError
from caffe2torch.parity import RANDOM_BATCHES
from caffe2torch.parity.result import Bisection, Comparison, ParityReport, logits_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from caffe2torch.api import ReadOptions
    from caffe2torch.graph import Graph
    from caffe2torch.parity.feed import Given
    from caffe2torch.parity.inputs import Batch

MOST_VALUES = 1 << 29
"""Of all blobs of a net together, at the shapes it declares: 2 GiB in each engine."""


def check_parity(
    model: PathLike | None,
    prototxt: PathLike | None = None,
    *,
    inputs: Given | None = None,
    images: PathLike | None = None,
    random: int = RANDOM_BATCHES,
    engines: Sequence[str] | None = None,
    reference: PathLike | None = None,
    tolerance: float | None = None,
    bisect: PathLike | None = None,
    synset_words: PathLike | None = None,
    **read_options: Unpack[ReadOptions],
) -> ParityReport:
    """Run the net on several engines and compare every blob they show.

    Args:
        model: as for ``read``; an artefact has no OpenCV engine.
        inputs: arrays by input blob, or an ``.npz`` of them, fed as one batch; else
            ``images`` (a folder), else ``random`` batches of seeded random numbers.
        engines: names of registered engines, of which the first is the baseline; None for
            all of them, ``torch`` first. An engine that cannot run the net is skipped with
            its reason in the report.
        reference: an ``.npz`` of recorded outputs, in the order of the inputs; it becomes
            one more engine.
        tolerance: largest absolute difference of a blob; the default is 1e-4 of its peak.
        bisect: where two engines differ, find the first layer that makes the first such
            pair differ and write it into this folder, as a net for ``check_parity``.
        synset_words: a file of class names, one a line.
        read_options: as for ``read``.

    Raises:
        ParityError: the inputs, the engines or the reference are unusable.
        Caffe2TorchError: the model is.
    """
    from caffe2torch.api import read
    from caffe2torch.finite import warn_not_finite
    from caffe2torch.images import read_class_names
    from caffe2torch.parity.feed import feed
    from caffe2torch.parity.provenance import file_records, versions

    known = engine_names()
    chosen = known if engines is None else engines
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise ParityError(f"unknown engine {unknown or 'list'}; known are {', '.join(known)}.")
    names = () if synset_words is None else read_class_names(synset_words)
    graph = read(model, prototxt, **read_options)
    warn_not_finite(graph)
    _check_size(graph)
    fed = feed(graph, inputs, images, random)
    running, skipped = start_engines(chosen, Job(graph, model, prototxt))
    if reference is not None:
        name = None if model is None else os.fspath(model)
        running[REFERENCE] = ReferenceEngine(reference, graph, name)
    if len(running) < 2:
        raise ParityError(
            "fewer than two engines can run the net: "
            + "; ".join(f"{name}: {why}" for name, why in skipped.items())
        )
    check = _Check(graph, running, skipped, tolerance)
    check.run(fed)
    files = {
        "model": model,
        "prototxt": prototxt,
        "reference": reference,
        "inputs": fed.path,
        "class names": synset_words,
    }
    report = ParityReport(
        model=os.fspath(model or prototxt or ""),
        graph=graph,
        feed=fed,
        images=check.images,
        comparisons=check.compared(),
        scores={name: score for name, score in check.scores.items() if score.images},
        skipped=skipped,
        tolerance=tolerance,
        top5=check.top5,
        files=file_records(files),
        versions=versions(),
        class_names=names,
    )
    if bisect is not None:
        report.bisection = _bisect(report, bisect, model, prototxt)
    return report


def _bisect(
    report: ParityReport,
    directory: PathLike,
    model: PathLike | None,
    prototxt: PathLike | None,
) -> Bisection | None:
    """Bisect the first comparison that failed."""
    from caffe2torch.parity.bisect import bisect

    failed = next((c for c in report.comparisons if not c.passed), None)
    if failed is None or failed.case is None:
        return None
    return bisect(
        report.graph,
        failed.case,
        directory,
        model=model,
        prototxt=prototxt,
        tolerance=report.tolerance,
        check=check_parity,
    )


def _check_size(graph: Graph) -> None:
    """A net's text can ask for any size in a few bytes, and engines do not ask before."""
    values = sum(prod(shape) for shape in graph.shapes.values())
    if values > MOST_VALUES:
        raise ParityError(
            f"the net's blobs have {values:,} values together, and each engine holds them all at "
            f"once; a check runs up to {MOST_VALUES:,}. Give smaller inputs (--input-shape)."
        )


class _Check:
    """Feeds the batches to the engines and gathers the differences of every pair."""

    def __init__(
        self,
        graph: Graph,
        engines: Mapping[str, Engine],
        skipped: dict[str, str],
        tolerance: float | None,
    ) -> None:
        from caffe2torch.parity.top5 import TopFive, has_classes

        self.graph, self.skipped = graph, skipped
        self.engines = dict(engines)
        self.logits = logits_of(graph)
        self.images = 0
        names = list(engines)
        pairs = [(names[0], name) for name in names[1:]]
        if names[-1] == REFERENCE:
            pairs += [(REFERENCE, name) for name in names[1:-1]]
        self.pairs = [Comparison(e, b, self.logits, tolerance) for b, e in pairs]
        self.scores = {name: Score() for name in names}
        self.top5 = TopFive()
        self.has_classes = has_classes(graph, self.logits)

    def run(self, batches: Iterable[Batch]) -> None:
        """Feed all batches. Raises ParityError if there are none."""
        for batch in batches:
            self._add(batch)
        if not self.images:
            raise ParityError("there are no inputs.")

    def compared(self) -> list[Comparison]:
        """The pairs with a blob in common. Raises ParityError if there is none."""
        found = [pair for pair in self.pairs if pair.differences]
        if not found:
            raise ParityError(
                "no two engines show the same blob. "
                + "; ".join(f"{name}: {why}" for name, why in self.skipped.items())
            )
        return found

    def _add(self, batch: Batch) -> None:
        self.images += max((len(a) for a in batch.inputs.values() if a.ndim), default=1)
        results = self._run_engines(batch)
        order = [blob for blob in self.graph.blobs if blob not in batch.inputs]
        for pair in self.pairs:
            if pair.engine in results and pair.baseline in results:
                pair.add(batch, order, results)
        logits = {n: blobs[self.logits] for n, blobs in results.items() if self.logits in blobs}
        if batch.labels:
            for name, array in logits.items():
                self.scores[name].add(array, batch.labels)
        if self.has_classes:
            self.top5.add(batch, logits)

    def _run_engines(self, batch: Batch) -> dict[str, Blobs]:
        results = {}
        for name, engine in list(self.engines.items()):
            try:
                results[name] = engine.run(batch.inputs)
            except EngineError as error:
                self.skipped[name] = str(error)
                del self.engines[name]
        return results
