"""A consumer in a process of its own: one that crashes or hangs is a finding and not the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe2torch.consumers import Consumer, consumer
from caffe2torch.errors import EngineError, one_line

if TYPE_CHECKING:
    from caffe2torch.graph import Array, FloatArray

SECONDS = 300.0
"""For one run, loading included: VGG-16 takes up to a minute on one core."""
ROOT = Path(__file__).parents[2]


class Process:
    """A context in which ``run`` is that of ``consumer``, in a process that lives as long.

    ``python`` is the one of an environment that the consumer is installed in.
    """

    def __init__(
        self, consumer: Consumer, python: str = sys.executable, seconds: float = SECONDS
    ) -> None:
        self.consumer, self.python, self.seconds = consumer, python, seconds
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Process:
        self._folder = TemporaryDirectory(prefix="caffe2torch-")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        self._folder.cleanup()

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Sequence[Any]]
    ) -> dict[str, Array]:
        """The outputs by name. Raises EngineError where the consumer fails, crashes or hangs."""
        folder = Path(self._folder.name)
        given = list(inputs.values())
        np.savez(folder / "inputs.npz", *given)
        answer = self._answer(
            model=str(Path(model).resolve()),
            inputs=list(inputs),
            outputs={name: list(shape) for name, shape in outputs.items()},
            folder=str(folder),
        )
        with np.load(folder / "outputs.npz", allow_pickle=False) as file:
            return {name: file[f"arr_{i}"] for i, name in enumerate(answer["outputs"])}

    def translate(self, model: Path, output: Path) -> None:
        """Make the consumer's own kind of file of an ONNX file. Raises as ``run`` does."""
        self._answer(model=str(Path(model).resolve()), translation=str(Path(output).resolve()))

    def _answer(self, **job: Any) -> dict[str, Any]:
        text = json.dumps({"consumer": self.consumer.name, **job}).encode() + b"\n"
        child = self._child = self._child or self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        line = b""
        try:
            child.stdin.write(text)
            child.stdin.flush()
            if not select([child.stdout], [], [], self.seconds)[0]:
                raise EngineError(f"it has not ended after {self.seconds:.0f} s")
            line = child.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            if not line:
                self._end()
        if not line:
            raise EngineError(f"its process ended with code {child.returncode}")
        answer: dict[str, Any] = json.loads(line)
        if answer["error"] is not None:
            raise EngineError(one_line(answer["error"]))
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        # What a plugin registers is in a file that only this process may have imported.
        module = type(self.consumer).__module__
        place = sys.modules[module].__file__ or ""
        paths = [str(ROOT), *([] if self.python != sys.executable else sys.path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        return subprocess.Popen(
            [self.python, "-m", __name__, module, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        try:
            child.communicate(timeout=0.2)  # Its end of input is how it is told to end.
        except (subprocess.TimeoutExpired, BrokenPipeError):
            child.kill()
            child.communicate()


def main() -> None:
    """Answer jobs, a line of JSON each, until the input ends.

    What the consumer's library prints goes where errors go, so that it is in no answer.
    """
    module, place = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    _import(module, place)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            names = _run(job)
            answer: dict[str, Any] = {"error": None, "outputs": names}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": str(error).strip() or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")


def _import(module: str, place: str) -> None:
    """Import the consumer's file, which may be a plugin's that is on no path."""
    from importlib import import_module
    from importlib.util import module_from_spec, spec_from_file_location

    try:
        import_module(module)
    except ImportError:
        spec = spec_from_file_location(module, place)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(module_from_spec(spec))


def _run(job: Mapping[str, Any]) -> list[str]:
    chosen = consumer(job["consumer"])
    if "translation" in job:
        chosen.translate(Path(job["model"]), Path(job["translation"]))
        return []
    folder = Path(job["folder"])
    with np.load(folder / "inputs.npz", allow_pickle=False) as file:
        inputs = {name: file[f"arr_{i}"] for i, name in enumerate(job["inputs"])}
    outputs = {name: tuple(shape) for name, shape in job["outputs"].items()}
    found = chosen.run(Path(job["model"]), inputs, outputs)
    np.savez(folder / "outputs.npz", *(np.asarray(found[name]) for name in outputs))
    return list(outputs)


if __name__ == "__main__":
    main()
