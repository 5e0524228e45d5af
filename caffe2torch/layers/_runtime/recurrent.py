"""Caffe's recurrent layers: the state goes on where ``cont`` is not 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def recurrent(
    arrays: Any,
    num_states: int,
    step: Callable[[Tensor, Tensor, Sequence[Tensor]], Sequence[Tensor]],
    x: Tensor,
    cont: Tensor,
    static: Tensor | None,
    states: Sequence[Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Hidden states (T, N, D) of all steps, and the last states, the hidden one first.

    ``arrays`` has the learned arrays as attributes. ``x`` is (T, N, ..), ``cont``
    (T, N), ``static`` (N, ..), a state (1, N, D).
    """
    from_input = F.linear(x.flatten(2), arrays.weight_x, arrays.bias)
    if static is not None:
        from_input = from_input + F.linear(static.flatten(1), arrays.weight_static)
    zero = x.new_zeros(x.shape[1], arrays.weight_h.shape[1])
    now: Sequence[Tensor] = [state.squeeze(0) for state in states]
    now = now or [zero] * num_states
    outputs = []
    for gates, go_on in zip(from_input, cont.unsqueeze(-1), strict=True):
        gates = gates + F.linear(go_on * now[0], arrays.weight_h)
        now = step(gates, go_on, now)
        outputs.append(now[0])
    return torch.stack(outputs), [state.unsqueeze(0) for state in now]


def lstm(
    arrays: Any,
    x: Tensor,
    cont: Tensor,
    static: Tensor | None = None,
    states: Sequence[Tensor] = (),
) -> tuple[Tensor, ...]:
    """The outputs of an LSTM and its last states h, c."""
    hidden, last = recurrent(arrays, 2, lstm_step, x, cont, static, states)
    return hidden, *last


def lstm_step(
    gates: Tensor, cont: Tensor, states: Sequence[Tensor]
) -> Sequence[Tensor]:
    """The next states h, c."""
    cell, hidden = lstm_unit(states[1], gates, cont)
    return [hidden, cell]


def lstm_unit(cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """The next cell and hidden state; the last axis of ``gates`` holds i, f, o, g."""
    i, f, o, g = gates.chunk(4, -1)
    cell = cont * f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return cell, o.sigmoid() * cell.tanh()


def rnn(
    arrays: Any,
    x: Tensor,
    cont: Tensor,
    static: Tensor | None = None,
    states: Sequence[Tensor] = (),
) -> tuple[Tensor, ...]:
    """The outputs of an RNN and its last state h."""
    hidden, last = recurrent(arrays, 1, rnn_step, x, cont, static, states)
    return F.linear(hidden, arrays.weight_o, arrays.bias_o).tanh(), *last


def rnn_step(gates: Tensor, cont: Tensor, states: Sequence[Tensor]) -> Sequence[Tensor]:
    """The next state."""
    return [gates.tanh()]
