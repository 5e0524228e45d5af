"""Plain-loop float64 forms of Caffe's unrolled recurrent nets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(
    cell: np.ndarray, gates: np.ndarray, cont: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The next cell and hidden state; gates (N, 4 D) hold i, f, o, g; cont (N, 1)."""
    i, f, o, g = np.split(gates, 4, axis=-1)
    cell = cont * sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    return cell, sigmoid(o) * np.tanh(cell)


def lstm(
    x: np.ndarray,
    cont: np.ndarray,
    static: np.ndarray | None,
    states: Sequence[np.ndarray],
    blobs: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Tops h, hT, cT for blobs W_x, b[, W_static], W_h and states h, c (1, N, D)."""
    hidden, cell = (s[0] for s in states)
    outputs = []
    for t in range(len(x)):
        gates = _gates(x[t], cont[t], static, hidden, blobs)
        cell, hidden = lstm_step(cell, gates, cont[t][:, None])
        outputs.append(hidden)
    return [np.stack(outputs), hidden[None], cell[None]]


def rnn(
    x: np.ndarray,
    cont: np.ndarray,
    static: np.ndarray | None,
    states: Sequence[np.ndarray],
    blobs: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Tops y, hT for blobs W_x, b[, W_static], W_h, W_o, b_o and the state h (1, N, D)."""
    hidden = states[0][0]
    outputs = []
    for t in range(len(x)):
        hidden = np.tanh(_gates(x[t], cont[t], static, hidden, blobs[:-2]))
        outputs.append(np.tanh(hidden @ blobs[-2].T + blobs[-1]))
    return [np.stack(outputs), hidden[None]]


def _gates(
    x: np.ndarray,
    cont: np.ndarray,
    static: np.ndarray | None,
    hidden: np.ndarray,
    blobs: Sequence[np.ndarray],
) -> np.ndarray:
    gates = x.reshape(len(x), -1) @ blobs[0].T + blobs[1]
    if static is not None:
        gates = gates + static.reshape(len(static), -1) @ blobs[2].T
    return gates + (cont[:, None] * hidden) @ blobs[-1].T
