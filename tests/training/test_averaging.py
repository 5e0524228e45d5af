"""The mean of two processes' gradients, in few messages, begun before the backward pass ends."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

SIZES = 3 * 5 * 7 * 7, 5, 2 * 5, 2, 7, 11
"""Elements of the weights and biases of convolution, classifier, and two further parameters."""

SCRIPT = """
import json
import torch
import torch.distributed as dist
from torch import nn
from caffe2torch.training import averaging
from caffe2torch.training.distributed import join_team

averaging.FIRST_BYTES, averaging.BYTES = 4 * 8, 4 * 20
sent = []
all_reduce = dist.all_reduce

def noted(array, **options):
    sent.append(array.numel())
    return all_reduce(array, **options)

dist.all_reduce = noted
with join_team("cpu") as team:
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(3, 5, 7), nn.Linear(5, 2)
    conv.to(memory_format=torch.channels_last)
    unused, shared = nn.Parameter(torch.ones(7)), nn.Parameter(torch.ones(11))
    frozen = nn.Parameter(torch.ones(13), requires_grad=False)
    trained = [*conv.parameters(), *linear.parameters(), unused, shared, frozen]
    made = averaging.Averaging(team, trained, [shared])

    def iteration(step):
        for parameter in trained:
            parameter.grad = None
        torch.manual_seed(2 * step + team.rank)
        for last in (False, True):
            images = torch.randn(2, 3, 9, 9)

            def backward():
                loss = linear(conv(images).mean((2, 3))).square().sum() + shared.sum()
                if team.rank == 0 and step:
                    loss = loss + (step * unused).sum()
                loss.backward()
            if last:
                with made.watching():
                    backward()
            else:
                backward()
        early = list(sent)
        shared.grad += 1 + team.rank
        alone = [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in trained]
        made.finish()
        return early, alone

    report = []
    for step in range(3):
        # Once by itself to learn each process's own gradients, which the first messages replace.
        original, made.messages = made.messages, []
        _, alone = iteration(step)
        made.messages = original
        early, _ = iteration(step)
        means = [sum(parts) / 2 for parts in zip(*team.gather(alone))]
        got = [p.grad for p in trained if p.requires_grad]
        away = max(float((g - m).abs().max()) for g, m in zip(got, means))
        strides = all(p.grad.stride() == p.stride() for p in trained if p.requires_grad)
        report.append([early, list(sent), away, strides, frozen.grad is None])
        sent.clear()
    print(json.dumps(report) if team.leads else "")
"""


def test_gradients_are_averaged_in_few_messages() -> None:
    """One process reaches a parameter that the other does not, and both send in the same order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, **job, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    kernel, bias, weight, offset, unused, shared = SIZES
    order = [unused + offset, weight + bias + kernel, shared]
    for step, (early, sent, away, strides, is_left) in enumerate(json.loads(said[0][0])):
        assert sent == order
        # What waits for the unused parameter's message waits for the end.
        assert early == (order[:2] if step else [])
        assert away == 0
        assert strides
        assert is_left
