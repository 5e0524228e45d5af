"""Caffe's recurrent layers: the state goes on where ``cont`` is not 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe2torch.layers._runtime.arrays import Arrays, is_tracing
from caffe2torch.layers._runtime.elementwise import constant


class Recurrent(Arrays):
    """The arrays of a recurrent layer, and the state in which its last pass ended.

    A pass begins with that state, as in Caffe, unless it is given states. So a sequence
    goes on over passes where ``cont`` is not 0 at the first step. A batch of another
    size begins with 0. What torch.jit.trace and torch.export record always does, and
    keeps nothing.
    """

    weight_x: Tensor
    bias: Tensor
    weight_static: Tensor
    weight_h: Tensor
    weight_o: Tensor
    bias_o: Tensor
    num_states = 1
    state: Sequence[Tensor] = ()

    def forward(
        self,
        x: Tensor,
        cont: Tensor,
        static: Tensor | None = None,
        states: Sequence[Tensor] = (),
    ) -> tuple[Tensor, ...]:
        """The outputs (T, N, D) of all steps; the last states, the hidden one first.

        ``x`` is (T, N, ..), ``cont`` (T, N), ``static`` (N, ..), a state (1, N, D). No
        gradient flows through the states: Caffe's ends with the pass.
        """
        from_input = F.linear(x.flatten(2), self.weight_x, self.bias)
        if static is not None:
            from_input = from_input + F.linear(static.flatten(1), self.weight_static)
        now = [constant(state, state.detach()).squeeze(0) for state in states]
        now = now or self.last_state(x)
        outputs = []
        for gates, go_on in zip(from_input, cont.unsqueeze(-1), strict=True):
            gates = gates + F.linear(go_on * now[0], self.weight_h)
            now = self.step(gates, go_on, now)
            outputs.append(now[0])
        if not states and not is_tracing():
            self.state = [state.detach() for state in now]
        last = [constant(state, state.detach()).unsqueeze(0) for state in now]
        return self.output(torch.stack(outputs)), *last

    def last_state(self, x: Tensor) -> list[Tensor]:
        """The states that a pass on ``x`` begins with."""
        zero = x.new_zeros(x.shape[1], self.weight_h.shape[1])
        goes_on = self.state and not is_tracing()
        if goes_on and self.state[0].shape == zero.shape:
            return [state.to(zero) for state in self.state]
        return [zero] * self.num_states

    def step(
        self, gates: Tensor, cont: Tensor, states: Sequence[Tensor]
    ) -> list[Tensor]:
        """The next states, the hidden one first."""
        return [gates.tanh()]

    def output(self, hidden: Tensor) -> Tensor:
        """The output for hidden states."""
        return hidden


class CaffeLSTM(Recurrent):
    """Caffe's LSTM. Its states are h, c."""

    num_states = 2

    def step(
        self, gates: Tensor, cont: Tensor, states: Sequence[Tensor]
    ) -> list[Tensor]:
        """The next h, c."""
        cell, hidden = lstm_unit(states[1], gates, cont)
        return [hidden, cell]


class FlaggedLSTM(CaffeLSTM):
    """An LSTM of one stream that goes on where its flags, T numbers, are not 0."""

    def forward(self, x: Tensor, flags: Tensor) -> Tensor:  # type: ignore[override]
        """The outputs for ``x``, (T, D) or (T, 1, ..), alike."""
        steps = x[:, None] if x.ndim == 2 else x
        go_on = (flags.reshape(-1, 1) != 0).to(x.dtype)
        y = super().forward(steps, go_on)[0]
        return y[:, 0] if x.ndim == 2 else y


def lstm_of_sequences(arrays: Any, x: Tensor, streams: int | None = None) -> Tensor:
    """The outputs of an LSTM for sequences that all start at the first step.

    ``x`` is (T, N, ..), or (T N, D) with N = ``streams``; the outputs are alike.
    """
    steps = x if streams is None else x.reshape(-1, streams, x.shape[1])
    from_input = F.linear(steps.flatten(2), arrays.weight_x, arrays.bias)
    hidden = cell = x.new_zeros(steps.shape[1], arrays.weight_h.shape[1])
    one = x.new_ones(1)
    outputs = []
    for gates in from_input:
        gates = gates + F.linear(hidden, arrays.weight_h)
        cell, hidden = lstm_unit(cell, gates, one)
        outputs.append(hidden)
    y = torch.stack(outputs)
    return y if streams is None else y.flatten(0, 1)


class CaffeRNN(Recurrent):
    """Caffe's RNN. Its state is h, not the output."""

    def output(self, hidden: Tensor) -> Tensor:
        """The output for hidden states."""
        return F.linear(hidden, self.weight_o, self.bias_o).tanh()


def lstm_unit(cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """The next cell and hidden state; the last axis of ``gates`` holds i, f, o, g."""
    i, f, o, g = gates.chunk(4, -1)
    cell = forget_gate(f, cont) * cell + i.sigmoid() * g.tanh()
    return cell, o.sigmoid() * cell.tanh()


def forget_gate(x: Tensor, cont: Tensor) -> Tensor:
    """``cont * sigmoid(x)`` as f, with Caffe's gradient f * (1 - f), cont included.

    That is the formula's where cont is 0 or 1; elsewhere a term that is 0 brings the
    difference in. What torch.jit and torch.export record has the formula's.
    """
    share = x.sigmoid()
    f = cont * share
    if is_tracing() or not x.requires_grad:
        return f
    y = x.nan_to_num()
    return f + (f * (share - f)).detach() * (y - y.detach())
