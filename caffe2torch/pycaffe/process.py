"""What a program asks of the process: its log, a timer, how many solvers there are (_caffe.cpp)."""

from __future__ import annotations

import logging
import time
from typing import Any

from caffe2torch.pycaffe.blob import StringVec

_LOG = logging.getLogger("caffe")
_TYPES = """
    AbsVal Accuracy ArgMax BNLL BatchNorm BatchReindex Bias Concat ContrastiveLoss Convolution
    Crop Data Deconvolution Dropout DummyData ELU Eltwise Embed EuclideanLoss Exp Filter Flatten
    HDF5Data HDF5Output HingeLoss Im2col ImageData InfogainLoss InnerProduct Input LRN LSTM
    LSTMUnit Log MVN MemoryData MultinomialLogisticLoss PReLU Parameter Pooling Power Python RNN
    ReLU Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax
    SoftmaxWithLoss Split TanH Threshold Tile WindowData
"""
_solvers = {"count": 1, "rank": 0}
_started: list[bool] = []


class Timer:
    """Measures milliseconds between ``start()`` and ``stop()``, or the reading of ``ms``."""

    def __init__(self) -> None:
        self._begin: float | None = None
        self._elapsed = 0.0

    def start(self) -> None:
        """Begin to measure."""
        self._begin = time.perf_counter()

    def stop(self) -> None:
        """End it; without a start this does nothing."""
        if self._begin is not None:
            self._elapsed = float(int(1000 * (time.perf_counter() - self._begin)))
            self._begin = None

    @property
    def ms(self) -> float:
        """Whole milliseconds; 0 before the first start."""
        self.stop()
        return self._elapsed


class NCCL:
    """A name without methods, as in a Caffe that was built without NCCL."""

    def __init__(self, solver: Any, uid: Any) -> None:
        pass


def layer_type_list() -> StringVec:
    """The layer types of BVLC's Caffe, sorted. Those of forks run too."""
    return StringVec(sorted(_TYPES.split()))


def init_log(level: int = 0, to_stderr: bool = False) -> None:
    """Have messages of this level (0 info, 1 warning, 2 error) and above written to stderr.

    Raises RuntimeError when called again.
    """
    if _started:
        raise RuntimeError("init_log was called before; it can be called once")
    _started.append(True)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname).1s%(asctime)s %(process)d] %(message)s"))
    _LOG.addHandler(handler)
    _LOG.setLevel((logging.INFO, logging.WARNING, logging.ERROR)[min(max(level, 0), 2)])


def log(message: str) -> None:
    """Write a message to the log."""
    _LOG.info(message)


def has_nccl() -> bool:
    """Whether NCCL was built in: it is not."""
    return False


def solver_count() -> int:
    """How many solvers train together."""
    return _solvers["count"]


def set_solver_count(count: int) -> None:
    """Say how many solvers train together."""
    _solvers["count"] = count


def solver_rank() -> int:
    """Which of them this process is."""
    return _solvers["rank"]


def set_solver_rank(rank: int) -> None:
    """Say which of them this process is."""
    _solvers["rank"] = rank


def set_multiprocess(is_multiprocess: bool) -> None:
    """Say that solvers are processes; there is no other way here."""
