from contextlib import contextmanager

import torch

from caffe2torch.training.side_stream import SideStream


class Stream:
    def __init__(self):
        self.waits = []

    def wait_stream(self, other):
        self.waits.append(other)


class OnGpu(torch.Tensor):
    """A tensor of a GPU, as far as a stream is concerned."""

    is_cuda = True

    def record_stream(self, stream):
        self.recorded = stream


def test_on_a_cpu_it_is_a_call():
    value = torch.ones(3)
    assert SideStream(torch.device("cpu"))(lambda: value, lambda made: [made]) is value


def test_on_a_gpu_the_step_waits_for_what_was_made_beside_it(monkeypatch):
    """Of streams that only take note, as there may be no GPU."""
    side, compute = Stream(), Stream()
    current = [compute]

    @contextmanager
    def use(stream):
        current.append(stream)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "stream", use)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    beside = SideStream(torch.device("cuda"))
    made_in = []

    def make():
        made_in.append(current[-1])
        return {"a": OnGpu(), "on the CPU": torch.ones(3), "no tensor": "x"}

    for count in (1, 2):
        made = beside(make, dict.values)
        assert made["a"].recorded is compute
        assert current == [compute]
        assert compute.waits == [side] * count
    assert made_in == [side, side]
