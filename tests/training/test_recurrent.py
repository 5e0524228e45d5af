"""LSTM and RNN in training, by their formulas in NumPy (lstm_unit_layer.cpp, rnn_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from recurrent_oracles import sigmoid

from caffe2torch.errors import UnsupportedLayerError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.passes.draft import State
from caffe2torch.training.distributed import ALONE
from caffe2torch.training.engine import Engine
from caffe2torch.training.fed import FedNet
from caffe2torch.training.log import Log
from caffe2torch.training.net import open_net
from caffe2torch.training.run import open_engine
from caffe2torch.training.solver import read_solver

STEPS, STREAMS, SIZE, FEATURES, STATIC = 4, 3, 2, 5, 7
ITERATIONS, RATE, MOMENTUM, CLIP = 4, 0.5, 0.9, 0.2
LR_MULTS = {"LSTM": (1, 0, 2, 0.5), "RNN": (1, 0, 2, 0.5, 0, 3)}
OF_PEAK = 1e-5
"""Of a blob's peak after four iterations in float32, against float64."""

NET = """
name: "sequence"
layer { name: "data" type: "HDF5Data" top: "x" top: "cont" top: "target"
  hdf5_data_param { source: "steps.txt" batch_size: 4 } }
layer { name: "static" type: "HDF5Data" top: "static"
  hdf5_data_param { source: "streams.txt" batch_size: 3 } }
layer { name: "rec" type: "TYPE" bottom: "x" bottom: "cont" bottom: "static" top: "y" PARAMS
  recurrent_param { num_output: 2 weight_filler { type: "uniform" min: -1 max: 1 }
    bias_filler { type: "uniform" max: 1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "target" top: "loss" }
"""
SOLVER = f"""
net: "net.prototxt" base_lr: {RATE} lr_policy: "fixed" momentum: {MOMENTUM} clip_gradients: {CLIP}
max_iter: {ITERATIONS} random_seed: 2 solver_mode: CPU
"""

Arrays = list[np.ndarray]


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_weights_after_some_steps(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The norm that clips counts the gradients of blobs whose lr_mult is 0, as in Caffe."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    steps = (ITERATIONS, STEPS, STREAMS)
    x, target = rng.standard_normal((*steps, FEATURES)), rng.standard_normal((*steps, SIZE))
    cont, static = rng.uniform(size=steps) > 0.4, rng.standard_normal((ITERATIONS, STREAMS, STATIC))
    write("steps", x=x, cont=cont, target=target)
    write("streams", static=static)
    params = " ".join(f"param {{ lr_mult: {factor} }}" for factor in LR_MULTS[kind])
    Path("net.prototxt").write_text(NET.replace("TYPE", kind).replace("PARAMS", params))
    Path("solver.prototxt").write_text(SOLVER)
    with open_engine(read_solver("solver.prototxt"), ALONE, log=Log(lambda text: None)) as engine:
        blobs = blobs_of(engine)
        histories = [np.zeros_like(blob) for blob in blobs]
        states = [np.zeros((STREAMS, SIZE))] * 2
        backward = {"LSTM": lstm_backward, "RNN": rnn_backward}[kind]
        for now in zip(x, cont.astype(float), static, target, strict=True):
            grads, states = backward(*now, blobs, states)
            norm = np.sqrt(sum((grad**2).sum() for grad in grads))
            assert norm > CLIP
            for blob, grad, history, factor in zip(
                blobs, grads, histories, LR_MULTS[kind], strict=True
            ):
                history *= MOMENTUM
                history += RATE * factor * CLIP / norm * grad
                blob -= history
            engine.step(1)
            for index, (ours, blob) in enumerate(zip(blobs_of(engine), blobs, strict=True)):
                assert np.abs(ours - blob).max() < OF_PEAK * np.abs(blob).max(), index


def test_layers_that_share_weights_are_refused_in_training() -> None:
    shared = 'param { name: "x" } param { name: "b" } param { name: "h" }'
    apart = 'param { name: "x" } param { name: "b" } param { name: "own" }'
    layer = 'recurrent_param { num_output: 2 } bottom: "x" bottom: "cont"'

    def net(steps: int, second: str) -> str:
        return f"""
            layer {{ name: "in" type: "Input" top: "x" top: "cont" input_param {{
              shape {{ dim: {steps} dim: 3 dim: 5 }} shape {{ dim: {steps} dim: 3 }} }} }}
            layer {{ name: "first" type: "LSTM" {layer} top: "a" {shared} }}
            layer {{ name: "second" type: "LSTM" {layer} top: "b" {second} }}
            """

    with pytest.raises(UnsupportedLayerError, match=r"'second'.* shares its blob 2 with") as found:
        open_net(parse_prototxt(net(4, shared), "net"), State("TRAIN"))
    assert "from the second step on" in str(found.value)
    open_net(parse_prototxt(net(4, shared), "net"), State("TEST"))
    open_net(parse_prototxt(net(4, apart), "net"), State("TRAIN"))
    open_net(parse_prototxt(net(1, shared), "net"), State("TRAIN"))


def write(name: str, **arrays: np.ndarray) -> None:
    """An HDF5 file of the arrays, their first two axes as one, and the list that names it."""
    with h5py.File(f"{name}.h5", "w") as file:
        for key, values in arrays.items():
            file[key] = values.reshape(-1, *values.shape[2:]).astype("<f4")
    Path(f"{name}.txt").write_text(f"{name}.h5\n")


def blobs_of(engine: Engine) -> Arrays:
    assert isinstance(engine.net, FedNet)
    return [
        np.array(array, np.float64)
        for layer in engine.net.layers()[0]
        if layer.proto.name == "rec"
        for array in layer.arrays()
    ]


def lstm_backward(
    x: np.ndarray,
    cont: np.ndarray,
    static: np.ndarray,
    target: np.ndarray,
    blobs: Sequence[np.ndarray],
    states: Sequence[np.ndarray],
) -> tuple[Arrays, Arrays]:
    """The gradients of the blobs W_x, b, W_s, W_h, and the last h, c."""
    w_x, bias, w_s, w_h = blobs
    hidden, cell = states
    kept = []
    for step in range(STEPS):
        go_on = cont[step][:, None]
        carried = go_on * hidden
        gates = x[step] @ w_x.T + bias + static @ w_s.T + carried @ w_h.T
        i, f, o, g = np.split(gates, 4, axis=-1)
        i, f, o, g = sigmoid(i), go_on * sigmoid(f), sigmoid(o), np.tanh(g)
        before, cell = cell, f * cell + i * g
        hidden = o * np.tanh(cell)
        kept.append((go_on, carried, i, f, o, g, before, np.tanh(cell), hidden))
    grads = [np.zeros_like(blob) for blob in blobs]
    of_hidden, of_cell = np.zeros_like(hidden), np.zeros_like(cell)
    for step in reversed(range(STEPS)):
        go_on, carried, i, f, o, g, before, squashed, top = kept[step]
        of_hidden = of_hidden + (top - target[step]) / STEPS
        of_cell = of_cell + of_hidden * o * (1 - squashed**2)
        of_gates = np.concatenate(
            [
                of_cell * g * i * (1 - i),
                of_cell * before * f * (1 - f),
                of_hidden * squashed * o * (1 - o),
                of_cell * i * (1 - g**2),
            ],
            axis=-1,
        )
        of_cell = of_cell * f
        of_hidden = go_on * (of_gates @ w_h)
        for grad, read in zip(
            grads, (x[step], np.ones((STREAMS, 1)), static, carried), strict=True
        ):
            grad += (of_gates.T @ read).reshape(grad.shape)
    return grads, [hidden, cell]


def rnn_backward(
    x: np.ndarray,
    cont: np.ndarray,
    static: np.ndarray,
    target: np.ndarray,
    blobs: Sequence[np.ndarray],
    states: Sequence[np.ndarray],
) -> tuple[Arrays, Arrays]:
    """The gradients of the blobs W_x, b, W_s, W_h, W_o, b_o, and the last h (twice)."""
    w_x, bias, w_s, w_h, w_o, bias_o = blobs
    hidden, kept = states[0], []
    for step in range(STEPS):
        go_on = cont[step][:, None]
        carried = go_on * hidden
        hidden = np.tanh(x[step] @ w_x.T + bias + static @ w_s.T + carried @ w_h.T)
        kept.append((go_on, carried, hidden, np.tanh(hidden @ w_o.T + bias_o)))
    grads = [np.zeros_like(blob) for blob in blobs]
    of_hidden = np.zeros_like(hidden)
    for step in reversed(range(STEPS)):
        go_on, carried, state, top = kept[step]
        of_output = (top - target[step]) / STEPS * (1 - top**2)
        of_sum = (of_hidden + of_output @ w_o) * (1 - state**2)
        of_hidden = go_on * (of_sum @ w_h)
        read = (x[step], np.ones((STREAMS, 1)), static, carried)
        for grad, value in zip(grads[:4], read, strict=True):
            grad += (of_sum.T @ value).reshape(grad.shape)
        grads[4] += of_output.T @ state
        grads[5] += of_output.sum(0)
    return grads, [hidden, hidden]
