"""The outcome of a check, as objects and as the plain values of report.schema.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from caffe2torch.compare import (
    ABSOLUTE_FLOOR,
    RELATIVE_TOLERANCE,
    Agreement,
    BlobDifference,
    LogitSample,
    Score,
    common_blobs,
)
from caffe2torch.engines import Blobs
from caffe2torch.engines.reference import REFERENCE
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.parity.inputs import SEED
from caffe2torch.parity.top5 import TopFive, has_classes

if TYPE_CHECKING:
    from caffe2torch.parity.feed import Feed
    from caffe2torch.parity.inputs import Batch
    from caffe2torch.parity.provenance import FileRecord
    from caffe2torch.parity.reproducer import Reproducer
    from caffe2torch.parity.top5 import ImageRow

SCHEMA_VERSION = 2
"""Of ``to_dict``; a key that changes its meaning raises it, a new key does not."""


@dataclass(frozen=True)
class Case:
    """One batch on which two engines differ; ``record`` is its part of the recorded outputs."""

    baseline: str
    engine: str
    inputs: Mapping[str, FloatArray]
    record: Blobs


@dataclass
class Comparison:
    """One engine against another, over all batches.

    ``differences`` are by blob, in the order of the net. ``case`` is the batch in which a
    blob exceeds its tolerance by the largest factor, ``excess``.
    """

    engine: str
    baseline: str
    logits: str
    tolerance: float | None
    differences: dict[str, BlobDifference] = field(default_factory=dict)
    agreement: Agreement = field(default_factory=Agreement)
    sample: LogitSample = field(default_factory=LogitSample)
    case: Case | None = None
    excess: float = 1.0

    def add(self, batch: Batch, order: Sequence[str], results: Mapping[str, Blobs]) -> None:
        """Take one batch into account: ``results`` has the blobs of both engines by name.

        ``order`` are the net's blobs in its order, without its inputs.
        """
        first, second = results[self.baseline], results[self.engine]
        common = common_blobs(order, first, second)
        for blob in common:
            found = BlobDifference(blob)
            found.add(first[blob], second[blob])
            self.differences.setdefault(blob, BlobDifference(blob)).merge(found)
            limit = found.limit(self.tolerance)
            excess = found.max_abs / limit if limit else math.inf
            if found.exceeds(self.tolerance) and (self.case is None or excess > self.excess):
                record = dict(results.get(REFERENCE, {}))
                self.case = Case(self.baseline, self.engine, batch.inputs, record)
                self.excess = excess
        if self.logits in common:
            self.sample.add(first[self.logits], second[self.logits])
            if first[self.logits].ndim > 1:
                self.agreement.add(first[self.logits], second[self.logits])

    @property
    def blobs(self) -> list[BlobDifference]:
        """The differences, in the order of the net."""
        return list(self.differences.values())

    @property
    def first_divergence(self) -> str | None:
        """The first blob along the net that differs by more than the tolerance."""
        return next((d.blob for d in self.blobs if d.exceeds(self.tolerance)), None)

    @property
    def worst(self) -> BlobDifference:
        """The blob with the largest difference relative to its peak."""
        return max(self.blobs, key=lambda d: d.max_rel)

    @property
    def last(self) -> BlobDifference:
        """The difference of the logits, or of the last blob where one engine lacks them."""
        return next((d for d in self.blobs if d.blob == self.logits), self.blobs[-1])

    @property
    def passed(self) -> bool:
        """Whether no blob differs by more than the tolerance."""
        return self.first_divergence is None

    def to_dict(self) -> dict[str, Any]:
        """What the JSON report says of the pair."""
        return {
            "engine": self.engine,
            "baseline": self.baseline,
            "passed": self.passed,
            "first_divergence": self.first_divergence,
            "worst": self.worst.blob,
            "logits": self.logits,
            "agreement": asdict(self.agreement),
            "blobs": [
                {
                    "blob": d.blob,
                    "max_abs": d.max_abs,
                    "max_rel": d.max_rel,
                    "peak": d.peak,
                    "limit": d.limit(self.tolerance),
                    "passed": not d.exceeds(self.tolerance),
                }
                for d in self.blobs
            ],
            "scatter": {"total": self.sample.seen, "pairs": self.sample.pairs.tolist()},
        }


@dataclass(frozen=True)
class Bisection:
    """Where two engines part.

    ``layers`` are (name, type) pairs: one, unless an engine hides the values between them;
    none, if no layer differs once the engines show every value. ``blob`` is the first output
    that differs, ``blob@layer`` where a later layer changes it in place. ``max_abs`` and
    ``peak`` were measured in the net, ``alone`` is the largest error of the layer by itself,
    fed what the baseline fed it, None where it cannot run by itself (``note`` says why);
    ``reproduced`` says that it fails the check by itself too.
    ``others`` are later layers that also turn inputs that agree into outputs that do not.
    """

    baseline: str
    engine: str
    layers: tuple[tuple[str, str], ...] = ()
    blob: str | None = None
    max_abs: float = 0.0
    peak: float = 0.0
    limit: float = 0.0
    alone: float | None = None
    reproduced: bool = False
    others: tuple[str, ...] = ()
    files: Reproducer | None = None
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields by their names in the JSON report."""
        fields = asdict(self)
        layers = [{"name": name, "type": type_} for name, type_ in fields.pop("layers")]
        return {"layers": layers, "alone_max_abs": fields.pop("alone"), **fields}

    def summary(self) -> list[str]:
        """What was found, in lines of text."""
        if not self.layers:
            return [f"{self.engine} / {self.baseline}: {self.note}"]
        names = ", ".join(f"{name} ({type_})" for name, type_ in self.layers)
        what = "the first layer" if len(self.layers) == 1 else "the first layers (no value between)"
        lines = [
            f"{self.engine} / {self.baseline}: {what} whose inputs agree and whose output does "
            f"not: {names}",
            f"output {self.blob}: max abs error {self.max_abs:.3g}, peak {self.peak:.3g}, "
            f"allowed {self.limit:.3g}",
        ]
        if self.alone is None:
            lines.append(f"it could not be run by itself: {self.note}")
        else:
            verdict = "differs too" if self.reproduced else "agrees: it magnifies what it is fed"
            lines.append(f"by itself it {verdict}: max abs error {self.alone:.3g}")
        if self.others:
            lines.append(f"layers that differ by themselves further on: {', '.join(self.others)}")
        return lines


@dataclass
class ParityReport:
    """The outcome of a parity check.

    Every engine stands against the first, and against the recorded outputs if there are any.
    ``images`` counts the items fed; ``scores`` are by engine, where labels are known.
    ``bisection`` is there if it was asked for and an engine differs.
    """

    model: str
    graph: Graph
    logits: str
    feed: Feed
    comparisons: list[Comparison]
    skipped: dict[str, str]
    tolerance: float | None
    images: int = 0
    scores: dict[str, Score] = field(default_factory=dict)
    top5: TopFive = field(default_factory=TopFive)
    files: Sequence[FileRecord] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    class_names: Sequence[str] = ()
    bisection: Bisection | None = None

    @property
    def passed(self) -> bool:
        """Whether every comparison passed."""
        return all(comparison.passed for comparison in self.comparisons)

    def add(self, batch: Batch, results: Mapping[str, Blobs]) -> None:
        """Take what the engines made of one batch into account."""
        self.images += max((len(a) for a in batch.inputs.values() if a.ndim), default=1)
        order = [blob for blob in self.graph.blobs if blob not in batch.inputs]
        for pair in self.comparisons:
            if pair.engine in results and pair.baseline in results:
                pair.add(batch, order, results)
        logits = {n: blobs[self.logits] for n, blobs in results.items() if self.logits in blobs}
        if batch.labels:
            for name, array in logits.items():
                self.scores.setdefault(name, Score()).add(array, batch.labels)
        if has_classes(self.graph, self.logits):
            self.top5.add(batch, logits)

    def name_of(self, index: int) -> str | None:
        """The name of a class, if names were given."""
        return self.class_names[index] if index < len(self.class_names) else None

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values for JSON; caffe2torch/parity/report.schema.json says which.

        Numbers that JSON cannot hold are the texts ``inf``, ``-inf`` and ``nan``.
        """
        fields = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "passed": self.passed,
            "images": self.images,
            "tolerance": {
                "absolute": self.tolerance,
                "relative": RELATIVE_TOLERANCE if self.tolerance is None else None,
                "floor": ABSOLUTE_FLOOR if self.tolerance is None else None,
            },
            "net": self._net(),
            "inputs": {
                "kind": self.feed.kind,
                "path": self.feed.path,
                "seed": SEED if self.feed.kind == "random" else None,
                "sha256": self.feed.sha256,
            },
            "files": [asdict(record) for record in self.files],
            "versions": self.versions,
            "skipped": self.skipped,
            "scores": {name: asdict(score) for name, score in self.scores.items()},
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "top5": {
                "images": [self._row(row) for row in self.top5.rows],
                "omitted": self.top5.seen - len(self.top5.rows),
                "omitted_differing": self.top5.omitted_differing,
            },
            "bisection": None if self.bisection is None else self.bisection.to_dict(),
        }
        return {key: _plain(value) for key, value in fields.items()}

    def _net(self) -> dict[str, Any]:
        graph = self.graph
        layer_of = {value: node.layer for node in graph.nodes for value in node.outputs}
        return {
            "name": graph.name,
            "phase": graph.phase,
            "source_sha256": str(graph.source_sha256) if graph.source_sha256 else None,
            "layers": len(graph.nodes),
            "inputs": {i.name: i.shape for i in graph.inputs},
            "outputs": graph.outputs,
            "logits": self.logits,
            "preprocessing": graph.preprocessing and graph.preprocessing.to_record(),
            "blobs": [
                {
                    "blob": blob,
                    "layer": layer_of[value].name,
                    "type": layer_of[value].type,
                    "shape": graph.shapes[value],
                }
                for blob, value in graph.blobs.items()
                if value in layer_of
            ],
        }

    def _row(self, row: ImageRow) -> dict[str, Any]:
        return {
            "index": row.index,
            "name": row.name,
            "label": row.label,
            "label_name": None if row.label is None else self.name_of(row.label),
            "same": row.same,
            "engines": {
                engine: [{"class": c, "name": self.name_of(c), "logit": score} for c, score in best]
                for engine, best in row.engines.items()
            },
        }


def logits_of(graph: Graph) -> str:
    """The blob to judge classes by: the first output, before a softmax if it has one."""
    from caffe2torch.layers.softmax import Softmax

    blob = graph.outputs[0]
    by_value = {value: name for name, value in graph.blobs.items()}
    for node in graph.nodes:
        if graph.blobs[blob] in node.outputs and isinstance(node.layer, Softmax):
            return by_value.get(node.inputs[0], blob)
    return blob


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it: numbers with nine digits, which tell any two float32."""
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
