"""OpenCV's ``dnn`` module: its own Caffe reader as an engine, and its ONNX reader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffe2torch.compare import is_detections
from caffe2torch.engines import Blobs, Job, register_engine
from caffe2torch.engines.onnxruntime import ShownModel
from caffe2torch.errors import EngineError, NotInstalledError, first_line

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray, Graph


@register_engine("opencv")
class OpenCVEngine:
    """OpenCV's Caffe reader (4.x) on the original weights, independent of our reading.

    Without a prototxt OpenCV is given the graph's definition: of a training snapshot it
    would run the data and loss layers too.
    """

    def __init__(self, job: Job) -> None:
        import cv2
        import numpy as np

        from caffe2torch.artefact.read import is_artefact
        from caffe2torch.io.deep_compression import is_deep_compression

        graph, model, prototxt = job.graph, job.model, job.prototxt
        if not has_caffe_reader():
            raise NotInstalledError(
                "the installed OpenCV has no Caffe reader, 4.x has one: pip install "
                "'opencv-python-headless<5'"
            )
        if graph.phase != "TEST":
            raise EngineError(f"OpenCV runs nets of phase TEST, this one is of {graph.phase}")
        if model is None or is_deep_compression(model) or is_artefact(model):
            raise EngineError("OpenCV needs a .caffemodel")
        net = graph.definition.encode() if prototxt is None else Path(prototxt).read_bytes()
        with _errors("OpenCV cannot read the net: "):
            self.net = cv2.dnn.readNetFromCaffe(
                np.frombuffer(net, np.uint8), np.fromfile(model, np.uint8)
            )
        # A layer that is fused into another, or writes into a Concat's memory, shows garbage.
        self.net.enableFusion(False)
        # Winograd's convolutions are 20 times as far from the exact result as others.
        if hasattr(self.net, "enableWinograd"):
            self.net.enableWinograd(False)
        blob_of = {value: blob for blob, value in graph.blobs.items()}
        self.shown: dict[str, str] = {}
        self.detections: set[str] = set()
        repeated: Counter[str] = Counter()
        for node in graph.nodes:
            name = node.layer.name
            # OpenCV numbers the layers of a name from the second on.
            known_as = f"{name}_{repeated[name]}" if repeated[name] else name
            repeated[name] += 1
            blob = blob_of.get(node.outputs[0]) if node.outputs else None
            if blob is not None and (job.every_blob or blob in graph.outputs):
                self.shown[known_as] = blob
                if is_detections(graph.shapes[node.outputs[0]], node.layer.free_axes):
                    self.detections.add(blob)

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """The first output of every layer that OpenCV knows by its Caffe name.

        The memory of the others may have been used again by then.
        """
        with _errors("OpenCV cannot take the inputs: "):
            for name, array in inputs.items():
                self.net.setInput(array, name if len(inputs) > 1 else "")
        known = set(self.net.getLayerNames())
        layers = [name for name in self.shown if name in known]
        if not layers:  # OpenCV would give its last layer instead.
            raise EngineError("OpenCV shows none of the net's blobs under their names")
        with _errors("OpenCV cannot run the net: "):
            values = _forward(self.net, layers)
        found = {self.shown[name]: value for name, value in values.items()}
        images = max((len(array) for array in inputs.values() if array.ndim), default=1)
        for blob in self.detections.intersection(found):
            found[blob] = _as_caffe_lists(found[blob], images)
        return found


def _as_caffe_lists(detections: Array, images: int) -> Array:
    """Detections (1, 1, K, 7) as Caffe has them.

    OpenCV fills their table up with zeros and orders all of an image by score; Caffe orders them
    by label first, and has a row of -1 for each image where there are none at all.
    """
    import numpy as np

    rows = detections.reshape(-1, detections.shape[-1])
    rows = rows[rows.any(axis=1)]
    rows = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))]
    if not len(rows):
        rows = np.full((images, detections.shape[-1]), -1, np.float32)
        rows[:, 0] = np.arange(images)
    return rows[None, None]


class OpenCVOnnxEngine:
    """OpenCV's ONNX reader on the bytes of a model, for the outputs that are named.

    ``backend`` and ``target`` are numbers of OpenCV's; 0 and 0 are its defaults on the CPU.
    ``renewed``: the model is read anew for each run. OpenCV 5.0 keeps the sizes of its first run
    where they depend on data, and loses boxes of a later image, or fails.
    Raises EngineError where OpenCV fails.
    """

    def __init__(
        self,
        model: bytes,
        outputs: Sequence[str],
        backend: int = 0,
        target: int = 0,
        *,
        renewed: bool = False,
    ) -> None:
        self.outputs = outputs
        self._model, self._places, self._renewed = model, (backend, target), renewed
        self._net = self._read()

    def _read(self) -> Any:
        import cv2
        import numpy as np

        with _errors():
            net = cv2.dnn.readNetFromONNX(np.frombuffer(self._model, np.uint8))
            if self._places != (0, 0):  # OpenCV 5 warns of any.
                net.setPreferableBackend(self._places[0])
                net.setPreferableTarget(self._places[1])
        return net

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, Array]:
        """The outputs by name."""
        net = self._read() if self._renewed else self._net
        with _errors():
            for name, array in inputs.items():
                net.setInput(array, name)
            return _forward(net, self.outputs)


def has_free_sizes(graph: Graph) -> bool:
    """Whether the size of a value depends on data, as the number of boxes found does."""
    return any(node.layer.free_axes for node in graph.nodes)


@register_engine("opencv-onnx", by_default=False)
class OpenCVLoweringEngine:
    """OpenCV's ONNX reader (4 or 5) on the ONNX lowering, at the batch that is fed."""

    def __init__(self, job: Job) -> None:
        from caffe2torch.lower.batch import batch_of

        self.job, self.batch = job, batch_of(job.graph)
        self.made: dict[int | None, tuple[ShownModel, OpenCVOnnxEngine]] = {}

    def run(self, inputs: Mapping[str, FloatArray]) -> Blobs:
        """Every blob that is a value of the graph."""
        batch = None
        if self.batch is not None:  # The first input that follows it says how large it is.
            declared = next(i for i in self.job.graph.inputs if i.shape[:1] == (self.batch,))
            batch = len(inputs[declared.name])
        if batch not in self.made:
            shown = ShownModel(self.job, batch)
            outputs = [output.name for output in shown.model.graph.output]
            with quiet():
                engine = OpenCVOnnxEngine(
                    shown.model.SerializeToString(),
                    outputs,
                    renewed=has_free_sizes(self.job.graph),
                )
            self.made[batch] = shown, engine
        shown, engine = self.made[batch]
        with quiet():
            return shown.named(engine.run(inputs))


def _forward(net: Any, outputs: Sequence[str]) -> dict[str, Array]:
    """The outputs by name, copied: OpenCV uses their memory again."""
    return {
        name: value.copy() for name, value in zip(outputs, net.forward(list(outputs)), strict=True)
    }


@contextmanager
def _errors(what: str = "") -> Iterator[None]:
    """Raise OpenCV's errors of the block as EngineError that begins with ``what``."""
    import cv2

    try:
        yield
    except cv2.error as error:
        raise EngineError(f"{what}{first_line(error)}") from error


def has_caffe_reader() -> bool:
    """Whether the installed OpenCV reads Caffe's files; 5 does not."""
    import cv2

    return hasattr(cv2.dnn, "readNetFromCaffe")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep OpenCV from writing errors to the terminal that are answered here.

    OpenCV 4.8 cannot be told to.
    """
    import cv2

    set_level = getattr(getattr(cv2.utils, "logging", None), "setLogLevel", None)
    level = set_level(0) if set_level else None
    try:
        yield
    finally:
        if set_level:
            set_level(level)
