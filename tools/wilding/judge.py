"""One net through reading, torch, ONNX Runtime, float64 and OpenCV, to one finding."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from caffe2torch.api import read
from caffe2torch.compare import in_float32_range
from caffe2torch.engines import BASELINE, Blobs, Job, start_engine
from caffe2torch.errors import ArtefactError, Caffe2TorchError, EngineError, WeightsError
from caffe2torch.graph import FloatArray, Graph, Shape
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import Message
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.lower.to_torch import to_torch
from caffe2torch.parity.inputs import Batch
from caffe2torch.parity.result import Comparison
from caffe2torch.parity.verdict import DIFFERS, KNOWN, ROUNDING, Judge
from caffe2torch.passes.draft import Options, State
from caffe2torch.pipeline import build_graph
from wilding.feed import MOST_VALUES, fewer_rows, guesses, sensible_inputs, smaller, values_of
from wilding.weights import with_random_weights
from wilding.words import missing, names_of, plain, reason_of

RIGHT, DIFFERENT, REFUSED, CRASH, TIMEOUT = "right", "different", "refused", "crash", "timeout"
READ = "read"
"""The outcome of a net that is only read, and could be."""
OUTCOMES = (RIGHT, READ, DIFFERENT, REFUSED, CRASH, TIMEOUT)

LARGE = 1 << 29
"""Of a net with more values in its blobs (2 GiB in each engine), outputs alone are compared."""
LARGEST = 1 << 31
"""Most values of all blobs of a net that is run at all."""
MOST_WEIGHTS = 1 << 26
"""Most random weights that are written to a caffemodel, for OpenCV."""
MOST_ADVICE = 20
"""How often a net is read again with what an error advises, or another guess."""
SIDE = 224
"""Of the images that are fed, in pixels, where the net takes it."""
ENGINES = ("onnxruntime", "float64", "opencv")
"""Compared with torch, in this order."""


@dataclass(frozen=True)
class Net:
    """A net to run: its name, the kind of file, the file, and weights that lie beside it."""

    name: str
    kind: str
    path: Path
    weights: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Finding:
    """What became of a net.

    ``stage`` is the last that was begun. ``reason`` has no names or numbers of the net, so that
    equal reasons are equal texts; ``detail`` is the whole message. ``lacks`` are the layer types
    and fields that the package does not know, ``opencv`` says ``right``, ``different`` or why
    OpenCV did not run, and ``judged`` how many blobs of which engine differ by rounding or a
    known fault. ``shapes`` are the phase and shapes that were given to read it.
    """

    net: str
    kind: str
    outcome: str
    stage: str = ""
    reason: str = ""
    lacks: str = ""
    opencv: str = ""
    judged: str = ""
    weights: str = ""
    shapes: str = ""
    seconds: float = 0.0
    detail: str = ""


def judge(
    net: Net, folder: Path, tell: Callable[[str], None], read_only: bool = False, side: int = SIDE
) -> Finding:
    """Run ``net``; ``tell`` is called with each stage as it begins, ``folder`` is for files.

    Images are ``side`` pixels long where the net takes that.
    """
    judgement = _Judgement(net, folder, tell, side)
    try:
        judgement.run(read_only)
    except Caffe2TorchError as error:
        judgement.end(REFUSED, reason_of(error, judgement.names), str(error))
    except MemoryError:
        judgement.end(TIMEOUT, "more memory than a net may take")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"{type(error).__name__} in {Path(place.filename).name}, {place.name}"
        judgement.end(CRASH, reason, str(error))
    return judgement.finding


class _Judgement:
    """The stages of one net; ``finding`` grows with them."""

    def __init__(self, net: Net, folder: Path, tell: Callable[[str], None], side: int) -> None:
        self.net, self.folder, self.tell, self.side = net, folder, tell, side
        self.finding = Finding(net.name, net.kind, RIGHT)
        self.names: set[str] = set()
        self.model: Path | None = None
        self.options: dict[str, Any] = {}

    def run(self, read_only: bool) -> None:
        """All stages. Raises what the package raises."""
        self._stage("read")
        is_model = self.net.kind == "caffemodel"
        message = read_caffemodel(self.net.path).net if is_model else read_prototxt(self.net.path)
        message = message if is_model else self._fewer_rows(message)
        self.names = names_of(message)
        self.note(lacks="; ".join(missing(message, is_model)))
        if is_model:
            self.model = self.net.path
            self.note(weights="genuine")
        graph = self._advised(message)
        if not graph.nodes:
            self.end(REFUSED, "it computes nothing: no layer but sources of data is left")
            return
        if read_only:
            self.note(outcome=READ)
            return
        if not is_model:
            graph = self._with_weights(message, graph)
        if values_of(graph) > LARGEST:
            self.end(TIMEOUT, "more values in its blobs than a run may take")
            return
        self._compare(graph, sensible_inputs(graph, self.finding.weights == "random"))

    def _compare(self, graph: Graph, inputs: Mapping[str, FloatArray]) -> None:
        """Run the engines, and note the first that differs from torch."""
        self._stage("torch")
        whole = values_of(graph) <= LARGE
        job = Job(graph, self.model, self._prototxt(), every_blob=whole)
        results = {BASELINE: start_engine(BASELINE, job).run(inputs)}
        order = [blob for blob in graph.blobs if blob not in inputs]
        notes = []
        for engine in ENGINES if whole else ENGINES[:1]:
            self._stage(engine)
            if engine == "opencv":
                if self.model is None or values_of(graph) > MOST_VALUES:
                    self.note(opencv="not asked: it is too large, or two layers share a name")
                    break
                try:
                    results[engine] = start_engine(engine, job).run(inputs)
                except EngineError as error:
                    self.note(opencv=plain(str(error), self.names))
                    break
            elif engine == "float64":
                results[engine] = _float64(graph, inputs)
            else:
                results[engine] = start_engine(engine, job).run(inputs)
            pair = Comparison(engine, BASELINE, "", None)
            pair.add(Batch(dict(inputs)), order, Judge(graph, inputs, results, {}))
            notes += [
                f"{engine}: {kind} {len(found)}"
                for kind in (ROUNDING, KNOWN, DIFFERS)
                if (found := pair.judged(kind))
            ]
            self.note(judged="; ".join(notes))
            if engine == "opencv":
                self.note(opencv=_in_short(pair))
            # Float64 has a larger range: where float32 overflows, engines in float32 are the judge.
            if engine != "float64" and not pair.passed:
                self._differs(graph, pair)
                return

    def _differs(self, graph: Graph, pair: Comparison) -> None:
        difference = pair.judged(DIFFERS)[0]
        blob = difference.blob
        made = next((n for n in graph.nodes if graph.blobs[blob] in n.outputs), None)
        reason = pair.verdicts[blob].reason
        text = f"blob {blob!r}: {difference.max_abs:.3g} of {difference.peak:.3g}; {reason}"
        self.end(DIFFERENT, f"{pair.engine}, first at {made.layer.type if made else 'input'}", text)

    def note(self, **fields: Any) -> None:
        """Put ``fields`` into the finding."""
        self.finding = replace(self.finding, **fields)

    def end(self, outcome: str, reason: str, detail: str = "") -> None:
        """Note the outcome, of the stage that is under way."""
        self.note(outcome=outcome, reason=reason, detail=" ".join(detail.split())[:500])

    def _stage(self, name: str) -> None:
        self.note(stage=name)
        self.tell(name)

    def _prototxt(self) -> Path | None:
        """What OpenCV reads: a deploy net as it is, of others what is left in phase TEST."""
        return self.net.path if self.net.kind == "deploy" and not self.options else None

    def _read(self, message: Message, options: Mapping[str, Any]) -> Graph:
        """The graph, with its own weights if they are part of the message, else with zeros."""
        if self.model is not None:
            return read(self.model, **options)
        state = State(options.get("phase", "TEST"), 0, options.get("stages", ()))
        shapes = options.get("input_shapes", {})
        return build_graph(message, None, state, Options(input_shapes=shapes))

    def _fewer_rows(self, message: Message) -> Message:
        """The net with few items of its DummyData layers, where it is written in such a way."""
        text = self.net.path.read_text(errors="surrogateescape")
        light = fewer_rows(text)
        if light == text:
            return message
        path = self.folder / self.net.path.name
        path.write_text(light, errors="surrogateescape")
        self.net = replace(self.net, path=path)
        return read_prototxt(path)

    def _advised(self, message: Message) -> Graph:
        """The graph; where an error advises a phase or an input's shape, that is given."""
        waiting: dict[str, list[Shape]] = {}
        last: Caffe2TorchError | None = None
        of_train = False
        for _ in range(MOST_ADVICE):
            try:
                graph = self._read(message, self.options)
            except Caffe2TorchError as error:
                shapes = dict(self.options.get("input_shapes", {}))
                asked = re.search(r"--input-shape (\S+?)=[\dN]", str(error))
                stage = re.search(r"--stage ([\w-]+)", str(error))
                is_fed = asked is not None and asked[1] not in shapes
                of_train = of_train or "--phase TRAIN" in str(error)
                if "--phase TRAIN" in str(error) and not is_fed and "phase" not in self.options:
                    self.options = {"phase": "TRAIN"}  # What was fed in TEST is made there.
                    waiting.clear()
                    last = error
                    continue
                if stage is not None and "stages" not in self.options:
                    self.options["stages"] = (stage[1],)
                    last = error
                    continue
                if asked is not None and asked[1] not in shapes:
                    blob = asked[1]
                    waiting[blob] = list(dict.fromkeys(guesses(self.net.name, blob, message)))
                    if advised := re.search(r"--input-shape \S+?=(\d+(?:,\d+)+)[ )]", str(error)):
                        waiting[blob].insert(0, tuple(map(int, advised[1].split(","))))
                elif any(waiting.values()):
                    blob = next(b for b in reversed(waiting) if waiting[b])
                    last = last or error
                elif not waiting and "shape" in str(error) and (source := _source(message)):
                    blob = source
                    waiting[blob] = list(dict.fromkeys(guesses(self.net.name, blob, message)))
                    last = last or error
                elif of_train and "phase" not in self.options:
                    self.options = {"phase": "TRAIN"}
                    continue
                else:
                    raise last or error from None
                shapes[blob] = waiting[blob].pop(0)
                self.options["input_shapes"] = shapes
            else:
                self._note_options()
                return graph
        raise last or Caffe2TorchError("no advice is left.")

    def _note_options(self) -> None:
        given = [f"phase={self.options['phase']}"] if "phase" in self.options else []
        given += [f"stage={stage}" for stage in self.options.get("stages", ())]
        for blob, shape in self.options.get("input_shapes", {}).items():
            given.append(f"{blob}={','.join(map(str, shape))}")
        self.note(shapes=" ".join(given))

    def _lighter(self, message: Message, graph: Graph) -> Graph:
        """``graph`` for smaller inputs, where it takes them."""
        for shapes in smaller(graph, self.side):
            tried = {**self.options, "input_shapes": shapes}
            try:
                found = self._read(message, tried)
            except Caffe2TorchError:
                continue
            if values_of(found) < values_of(graph):
                self.options = tried
                self._note_options()
                return found
        return graph

    def _with_weights(self, message: Message, graph: Graph) -> Graph:
        """The graph with the weights beside it, else with random ones from a caffemodel."""
        for path in self.net.weights:
            try:
                found = read(path, self.net.path, **self.options)
            except WeightsError:
                continue
            self.model = path
            self.note(weights="genuine")
            return found
        self.note(weights="random")
        graph = with_random_weights(self._lighter(message, graph))
        if sum(array.size for array in graph.params.values()) > MOST_WEIGHTS:
            return graph
        model = self.folder / "net.caffemodel"
        try:
            write_caffemodel(graph, model)
        except ArtefactError:  # Two layers with weights share a name, or it is above 2 GiB.
            return graph
        self.model = model
        return read(model, self.net.path, **self.options)


def _source(message: Message) -> str | None:
    """The first blob that a layer without bottoms makes, if it sizes its crops."""
    layers = [*message.layer, *message.layers]
    found = (
        la.top[0] for la in layers if la.top and not la.bottom and la.transform_param.crop_size
    )
    return next(found, None)


def _in_short(pair: Comparison) -> str:
    known = pair.judged(KNOWN)
    if not pair.passed:
        return DIFFERENT
    return plain(f"known: {pair.verdicts[known[0].blob].reason}", set()) if known else RIGHT


def _float64(graph: Graph, inputs: Mapping[str, FloatArray]) -> Blobs:
    """Every blob as the torch module computes it in float64."""
    import torch

    module = to_torch(graph).eval().double()
    with torch.no_grad():
        blobs = module.blobs({name: torch.from_numpy(a).double() for name, a in inputs.items()})
        return {
            name: in_float32_range(tensor.numpy()).astype(np.float32)
            for name, tensor in blobs.items()
        }
