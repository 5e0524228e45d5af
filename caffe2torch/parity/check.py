"""Run every engine on the same input and judge whether they agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from caffe2torch.errors import ParityError

if TYPE_CHECKING:
    from caffe2torch.graph import FloatArray, Graph
    from caffe2torch.parity.compare import Agreement, BlobDifference, Score
    from caffe2torch.parity.engines import Engine
    from caffe2torch.parity.inputs import Batch

ENGINES = ("torch", "onnxruntime", "opencv")
RANDOM_BATCHES = 3


@dataclass
class Comparison:
    """One engine against another: differences by blob, in the order of the net."""

    engine: str
    baseline: str
    blobs: list[BlobDifference]
    logits: str
    agreement: Agreement
    tolerance: float | None

    @property
    def first_divergence(self) -> str | None:
        """The first blob along the net that differs by more than the tolerance."""
        return next((d.blob for d in self.blobs if d.exceeds(self.tolerance)), None)

    @property
    def worst(self) -> BlobDifference:
        """The blob with the largest difference relative to its peak."""
        return max(self.blobs, key=lambda d: d.max_rel)

    @property
    def passed(self) -> bool:
        """Whether no blob differs by more than the tolerance."""
        return self.first_divergence is None


@dataclass
class ParityReport:
    """The outcome of a parity check.

    Every engine stands against the first, and against the recorded outputs if there are any.
    """

    model: str
    images: int
    comparisons: list[Comparison]
    scores: dict[str, Score]
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every comparison passed."""
        return all(comparison.passed for comparison in self.comparisons)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "schema_version": 1,
            "model": self.model,
            "passed": self.passed,
            "images": self.images,
            "skipped": self.skipped,
            "scores": {name: vars(score) for name, score in self.scores.items()},
            "comparisons": [_comparison_dict(c) for c in self.comparisons],
        }


def check_parity(
    model: str | os.PathLike[str] | None,
    prototxt: str | os.PathLike[str] | None = None,
    *,
    inputs: Mapping[str, FloatArray] | None = None,
    images: str | os.PathLike[str] | None = None,
    random: int = RANDOM_BATCHES,
    engines: Sequence[str] = ENGINES,
    reference: str | os.PathLike[str] | None = None,
    tolerance: float | None = None,
    **read_options: Any,
) -> ParityReport:
    """Run the net on several engines and compare every blob they show.

    Args:
        model: as for ``read``; an artefact has no OpenCV engine.
        inputs: arrays by input blob; else ``images`` (a folder), else ``random`` batches of
            seeded random numbers.
        engines: of ``torch``, ``onnxruntime`` and ``opencv``; the first is the baseline. An
            engine that cannot run the net is skipped with its reason in the report.
        reference: an ``.npz`` of recorded outputs, in the order of the inputs; it becomes
            one more engine.
        tolerance: largest absolute difference of a blob; the default is 1e-4 of its peak.
        read_options: as for ``read``.

    Raises:
        ParityError: the inputs, the engines or the reference are unusable.
        Caffe2TorchError: the model is.
    """
    from caffe2torch.api import read
    from caffe2torch.parity.inputs import Batch, image_batches, random_batches

    unknown = [name for name in engines if name not in ENGINES]
    if unknown or not engines:
        raise ParityError(f"unknown engine {unknown or 'list'}; known are {', '.join(ENGINES)}.")
    graph = read(model, prototxt, **read_options)
    batches: Iterable[Batch]
    if inputs is not None:
        batches = [Batch(dict(inputs))]
    elif images is not None:
        batches = image_batches(graph, images)
    else:
        batches = random_batches(graph, random)
    running, skipped = _start(graph, engines, model, prototxt)
    if reference is not None:
        from caffe2torch.parity.engines import ReferenceEngine

        name = None if model is None else os.fspath(model)
        running.append(ReferenceEngine(reference, graph, name))
    if len(running) < 2:
        raise ParityError(
            "fewer than two engines can run the net: "
            + "; ".join(f"{name}: {why}" for name, why in skipped.items())
        )
    return _Check(graph, str(model or prototxt), running, skipped, tolerance).run(batches)


def logits_of(graph: Graph) -> str:
    """The blob to judge classes by: the first output, before a softmax if it has one."""
    from caffe2torch.layers.softmax import Softmax

    blob = graph.outputs[0]
    by_value = {value: name for name, value in graph.blobs.items()}
    for node in graph.nodes:
        if graph.blobs[blob] in node.outputs and isinstance(node.layer, Softmax):
            return by_value.get(node.inputs[0], blob)
    return blob


def _start(
    graph: Graph,
    names: Sequence[str],
    model: str | os.PathLike[str] | None,
    prototxt: str | os.PathLike[str] | None,
) -> tuple[list[Engine], dict[str, str]]:
    from caffe2torch.errors import UnsupportedLayerError
    from caffe2torch.parity.engines import OnnxRuntimeEngine, OpenCVEngine, TorchEngine

    def opencv() -> Engine:
        if not OpenCVEngine.available():
            raise ParityError("the installed OpenCV has no Caffe reader (4.x has one)")
        return OpenCVEngine(graph, model, prototxt)

    makers: dict[str, Callable[[], Engine]] = {
        "torch": lambda: TorchEngine(graph),
        "onnxruntime": lambda: OnnxRuntimeEngine(graph),
        "opencv": opencv,
    }
    running: list[Engine] = []
    skipped = {}
    for name in names:
        try:
            running.append(makers[name]())
        except (ParityError, UnsupportedLayerError) as error:
            skipped[name] = str(error)
    return running, skipped


class _Check:
    """Feeds the batches to the engines and gathers the differences of every pair."""

    def __init__(
        self,
        graph: Graph,
        model: str,
        engines: Sequence[Engine],
        skipped: dict[str, str],
        tolerance: float | None,
    ) -> None:
        from caffe2torch.parity.compare import Score

        self.graph, self.model, self.skipped = graph, model, skipped
        self.engines = list(engines)
        self.tolerance = tolerance
        self.logits = logits_of(graph)
        self.images = 0
        names = [engine.name for engine in engines]
        pairs = [(names[0], name) for name in names[1:]]
        if names[-1] == "reference":
            pairs += [("reference", name) for name in names[1:-1]]
        self.pairs = {pair: _Pair() for pair in pairs}
        self.scores = {name: Score() for name in names}

    def run(self, batches: Iterable[Batch]) -> ParityReport:
        for batch in batches:
            self._add(batch)
        if not self.images:
            raise ParityError("there are no inputs.")
        comparisons = [
            Comparison(
                engine,
                baseline,
                [pair.blobs[blob] for blob in self.graph.blobs if blob in pair.blobs],
                self.logits,
                pair.agreement,
                self.tolerance,
            )
            for (baseline, engine), pair in self.pairs.items()
            if pair.blobs
        ]
        if not comparisons:
            raise ParityError(
                "no two engines show the same blob. "
                + "; ".join(f"{name}: {why}" for name, why in self.skipped.items())
            )
        scores = {name: score for name, score in self.scores.items() if score.images}
        return ParityReport(self.model, self.images, comparisons, scores, self.skipped)

    def _add(self, batch: Batch) -> None:
        self.images += max((len(a) for a in batch.inputs.values() if a.ndim), default=1)
        results = {}
        for engine in list(self.engines):
            try:
                results[engine.name] = engine.run(batch.inputs)
            except ParityError as error:
                if engine.name != "opencv":
                    raise
                self.skipped[engine.name] = str(error)
                self.engines.remove(engine)
        for (baseline, engine_name), pair in self.pairs.items():
            if engine_name in results:
                order = [blob for blob in self.graph.blobs if blob not in batch.inputs]
                pair.add(order, self.logits, results[baseline], results[engine_name])
        for name, blobs in results.items():
            if batch.labels and self.logits in blobs:
                self.scores[name].add(blobs[self.logits], batch.labels)


class _Pair:
    """What two engines differ by, over all batches."""

    def __init__(self) -> None:
        from caffe2torch.parity.compare import Agreement

        self.blobs: dict[str, BlobDifference] = {}
        self.agreement = Agreement()

    def add(
        self, order: Sequence[str], logits: str, first: Mapping[str, Any], second: Mapping[str, Any]
    ) -> None:
        from caffe2torch.parity.compare import BlobDifference, common_blobs

        common = common_blobs(order, first, second)
        for blob in common:
            found = self.blobs.setdefault(blob, BlobDifference(blob))
            found.add(first[blob], second[blob])
        if logits in common and first[logits].ndim > 1:
            self.agreement.add(first[logits], second[logits])


def _comparison_dict(comparison: Comparison) -> dict[str, Any]:
    return {
        "engine": comparison.engine,
        "baseline": comparison.baseline,
        "passed": comparison.passed,
        "first_divergence": comparison.first_divergence,
        "logits": comparison.logits,
        "agreement": vars(comparison.agreement),
        "blobs": [
            {"blob": d.blob, "max_abs": d.max_abs, "max_rel": d.max_rel, "peak": d.peak}
            for d in comparison.blobs
        ],
    }
