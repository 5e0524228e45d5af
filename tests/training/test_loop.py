"""The order of what a loop does, whatever it trains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from caffe2torch.training.loop import Action, DivergedError, Loop
from caffe2torch.training.rules import Schedule

STEPPED = Schedule("step", base_lr=1.0, gamma=0.5, stepsize=2)


class Noted(Loop):
    """Notes what is called; pass k has the losses k and 10 k."""

    def __init__(self, **options: Any) -> None:
        super().__init__(STEPPED, **options)
        self.calls: list[str] = []
        self.passes = 0
        self.hooks.on_start.append(lambda: self.calls.append("on_start"))
        self.hooks.on_gradients_ready.append(lambda: self.calls.append("on_gradients_ready"))

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def clear_gradients(self) -> None:
        self.calls.append("clear")

    def before_passes(self) -> None:
        self.calls.append("before_passes")

    def forward_backward(self) -> Tensor:
        self.calls.append("pass")
        self.passes += 1
        return torch.tensor([1.0, 10.0]) * self.passes

    def before_update(self) -> None:
        self.calls.append("before_update")

    def update(self) -> None:
        self.calls.append(f"update {self.iteration} at {self.rate}")

    def after_update(self) -> None:
        self.calls.append("after_update")

    def snapshot(self) -> None:
        self.calls.append(f"snapshot {self.iteration}")

    def why_not_finite(self) -> str:
        return "because"


def test_the_order_of_an_iteration() -> None:
    loop = Noted(iter_size=2, snapshot_interval=1)
    loop.step(1)
    assert loop.calls == [
        "clear", "before_passes", "on_start", "pass", "pass", "before_update",
        "on_gradients_ready", "update 0 at 1.0", "after_update", "snapshot 1",
    ]  # fmt: skip


def test_rates_snapshots_and_progress_follow_the_iteration() -> None:
    seen: list[tuple[int, int]] = []
    loop = Noted(snapshot_interval=2, progress=lambda *place: seen.append(place))
    loop.step(3)
    assert loop.next_rate() == 0.5
    loop.step(2)
    told = [call for call in loop.calls if call.startswith(("update", "snapshot"))]
    assert told == [
        "update 0 at 1.0", "update 1 at 1.0", "snapshot 2", "update 2 at 0.5", "update 3 at 0.5",
        "snapshot 4", "update 4 at 0.25",
    ]  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3), (4, 5), (5, 5)]


def test_the_loss_is_the_mean_of_passes_and_of_the_last_iterations() -> None:
    loop = Noted(iter_size=2, average_loss=3)
    loop.step(2)  # Its iterations have the mean losses 1.5 and 3.5.
    torch.testing.assert_close(loop.smoothed, torch.tensor([2.5, 25.0]))
    loop.step(5)  # A new call begins anew: 5.5, 7.5, ..., 13.5.
    torch.testing.assert_close(loop.smoothed, torch.tensor([11.5, 115.0]))


def test_requests() -> None:
    asked = iter([Action.SNAPSHOT, Action.STOP])
    loop = Noted(requested=lambda: next(asked, Action.NONE))
    loop.step(9)
    assert (loop.iteration, loop.stopped) == (2, True)
    assert loop.calls.count("snapshot 1") == 1
    assert "snapshot 2" not in loop.calls  # Whoever started the loop decides.
    loop.step(1)
    assert (loop.iteration, loop.stopped) == (3, False)


def test_only_the_first_loss_of_all_is_looked_at() -> None:
    loop = Noted()
    loop.passes = 1e40  # type: ignore[assignment]  # beyond float32
    with pytest.raises(DivergedError, match="loss is inf at iteration 0, before any update: bec"):
        loop.step(1)
    assert not any(call.startswith("update") for call in loop.calls)
    loop.passes = 0
    loop.step(1)
    loop.passes = 1e40  # type: ignore[assignment]
    loop.step(1)
    assert loop.iteration == 2
