"""What ``caffe test`` and ``caffe time`` measure of a net."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from caffe2torch.graph import Node
from caffe2torch.training.fed import FedNet
from caffe2torch.training.log import Log, loss_part, number


def score(net: FedNet, iterations: int, log: Log) -> dict[str, list[float]]:
    """Run ``iterations`` passes, and return the mean of every value of every output, by name.

    ``loss`` in the log is the mean of the sum of all losses (Caffe: test() in caffe.cpp).
    """
    log.line(f"Running for {iterations} iterations.", "caffe.cpp:275")
    loss = 0.0
    sums: list[Tensor] = []
    for index in range(iterations):
        done = net.forward()
        loss += float(done.loss)
        values = [output.values.double() for output in done.outputs]
        sums = [s + v for s, v in zip(sums, values, strict=True)] if sums else values
        for output in done.outputs:
            for value in output.values.tolist():
                log.line(f"Batch {index}, {output.name} = {number(value)}", "caffe.cpp:309")
    log.line(f"Loss: {number(loss / iterations)}", "caffe.cpp:313")
    means = {}
    for output, total in zip(done.outputs, sums, strict=True):
        means[output.name] = (total / iterations).tolist()
        for value in means[output.name]:
            part = loss_part(value, output.weight)
            log.line(f"{output.name} = {number(value)}{part}", "caffe.cpp:325")
    return means


@dataclass(frozen=True)
class LayerTime:
    """Mean milliseconds of a layer's forward and backward computation."""

    name: str
    forward: float
    backward: float


def measure(net: FedNet, iterations: int, log: Log) -> list[LayerTime]:
    """The time of each layer, alone, over ``iterations`` passes (Caffe: time() in caffe.cpp).

    A layer's backward time is that of the gradients of its bottoms and learned blobs. Data
    layers are not timed.
    """
    log.line("*** Benchmark begins ***", "caffe.cpp:366")
    log.line(f"Testing for {iterations} iterations.", "caffe.cpp:367")
    inputs = net.inputs()
    nodes = net.net.graph.nodes
    forward, backward = [0.0] * len(nodes), [0.0] * len(nodes)
    for index in range(-1, iterations):  # The first is for what is set up once.
        start = time.perf_counter()
        values = dict(inputs)
        for place, (node, function) in enumerate(
            zip(nodes, net.module.functions(inputs), strict=True)
        ):
            ahead, back = _time(net, node, function, values)
            if index >= 0:
                forward[place] += ahead
                backward[place] += back
        if index >= 0:
            spent = (time.perf_counter() - start) * 1000
            text = f"Iteration: {index + 1} forward-backward time: {number(spent)} ms."
            log.line(text, "caffe.cpp:395")
    log.line("Average time per layer: ", "caffe.cpp:398")
    times = [
        LayerTime(node.layer.name, ahead * 1000 / iterations, back * 1000 / iterations)
        for node, ahead, back in zip(nodes, forward, backward, strict=True)
    ]
    for one in times:
        log.line(f"{one.name:>10}\tforward: {number(one.forward)} ms.", "caffe.cpp:401")
        log.line(f"{one.name:>10}\tbackward: {number(one.backward)} ms.", "caffe.cpp:404")
    ahead, back = sum(one.forward for one in times), sum(one.backward for one in times)
    log.line(f"Average Forward pass: {number(ahead)} ms.", "caffe.cpp:409")
    log.line(f"Average Backward pass: {number(back)} ms.", "caffe.cpp:411")
    log.line(f"Average Forward-Backward: {number(ahead + back)} ms.", "caffe.cpp:413")
    log.line(f"Total Time: {number((ahead + back) * iterations)} ms.", "caffe.cpp:415")
    log.line("*** Benchmark ends ***", "caffe.cpp:416")
    return times


def _time(
    net: FedNet, node: Node, function: Callable[..., Tensor], values: dict[str, Tensor]
) -> tuple[float, float]:
    """Seconds of a node's forward and backward computation; its outputs join ``values``."""
    bottoms = [
        values[name].detach().requires_grad_(position not in node.layer.index_bottoms)
        for position, name in enumerate(node.inputs)
    ]
    start = _now(net.device)
    result = function(*bottoms)
    middle = _now(net.device)
    tops = [result] if isinstance(result, Tensor) else list(result)
    values.update(zip(node.outputs, tops, strict=True))
    made = [top for top in tops if top.requires_grad]
    into = [b for b in bottoms if b.requires_grad]
    into += [p for p in net.module.get_submodule(node.key).parameters() if p.requires_grad]
    if not made or not into:
        return middle - start, 0.0
    ones = [torch.ones_like(top) for top in made]
    before = _now(net.device)
    torch.autograd.grad(made, into, ones, allow_unused=True)
    return middle - start, _now(net.device) - before


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
