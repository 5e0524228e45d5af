import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import cv2
import numpy as np
import pytest
import torch
from data_nets import datum, pixels, source, write_lmdb

from caffe2torch.cuts import CPU
from caffe2torch.data import Prefetched, prefetch
from caffe2torch.data.prefetch import NICENESS
from caffe2torch.data.slots import HELD
from caffe2torch.data.source import ArraySource
from caffe2torch.images import ImageError

pytest.importorskip("lmdb")


@pytest.fixture
def opened(tmp_path):
    """Five items, of which one is broken."""
    items = [datum(pixels(n), label=n) for n in range(5)]
    items.insert(4, datum(encoded=True, data=b"no image", label=9))
    path = write_lmdb(tmp_path / "db", items)
    text = f'data_param {{ source: "{path}" backend: LMDB batch_size: 2 }}'
    return source(f"transform_param {{ mirror: true crop_size: 3 }} {text}")


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_in_order_whatever_makes_them(opened, workers):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    batches = Prefetched(opened, start=3, workers=workers)
    finish = opened.finisher(CPU)
    for index in (3, 4):
        raw = next(batches)
        assert raw[0].pixels.dtype == torch.uint8
        for got, expected in zip(finish(raw), opened.batch(index), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert torch.equal(torch.get_rng_state(), state)
    batches.close()
    assert not multiprocessing.active_children()


def test_a_source_can_be_sent_to_a_process(opened, tmp_path):
    """Which is what workers that are not forked need."""
    cv2.imwrite(str(tmp_path / "0.png"), pixels().transpose(1, 2, 0))
    (tmp_path / "list.txt").write_text("0.png 3\n")
    text = 'image_data_param { source: "list.txt" shuffle: true }'
    dummy = 'dummy_data_param { shape { dim: 3 } data_filler { type: "uniform" } }'
    images = source(text, kind="ImageData", folder=tmp_path)
    for one in (opened, images, source(dummy, kind="DummyData", tops=("a",))):
        sent = pickle.loads(pickle.dumps(one))
        assert sent.shapes == one.shapes
        for got, expected in zip(sent.batch(1), one.batch(1), strict=True):
            np.testing.assert_array_equal(got, expected)


class Niceness(ArraySource):
    def __init__(self):
        self.shapes = ((1,),)

    def arrays(self, index):
        return (np.array([os.nice(0)], np.float32),)


@pytest.mark.skipif(not hasattr(os, "nice"), reason="this system has no niceness")
def test_workers_give_way_to_the_process_that_trains():
    own = os.nice(0)
    batches = Prefetched(Niceness(), workers=1)
    assert int(next(batches)[0]) == min(own + NICENESS, 19)
    batches.close()
    assert os.nice(0) == own


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 2), (64, 2)])
def test_images_are_read_ahead_by_default_and_numbers_are_not(
    opened, monkeypatch, cores, processes
):
    monkeypatch.setattr(prefetch, "_cores", lambda: cores)
    batches = Prefetched(opened)
    assert len(multiprocessing.active_children()) == processes
    batches.close()
    dummy = source("dummy_data_param { shape { dim: 3 } }", kind="DummyData", tops=("a",))
    Prefetched(dummy)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("encoded", [False, True])
def test_batches_of_other_forms_than_the_first_come_through(tmp_path, encoded):
    """Of another size, and of floats; and more of them than there are slots are kept."""
    items = [datum(pixels(n, (3, 4 + n % 2, 6)), label=n) for n in range(5)]
    if encoded:
        for item in items:
            image = np.frombuffer(item.data, np.uint8).reshape(3, item.height, 6)
            item.data = cv2.imencode(".png", image.transpose(1, 2, 0))[1].tobytes()
            item.encoded = True
    items.insert(3, datum(np.float32(pixels(9)) / 7, label=9))
    path = write_lmdb(tmp_path / "db", items)
    opened = source(f'data_param {{ source: "{path}" backend: LMDB batch_size: 1 }}')
    batches = Prefetched(opened, workers=2)
    finish = opened.finisher(CPU)
    kept = [next(batches) for _ in range(30)]
    batches.close()
    for index, raw in enumerate(kept):
        for got, expected in zip(finish(raw), opened.batch(index), strict=True):
            np.testing.assert_array_equal(got, expected)
            assert got.stride() == expected.stride()


def test_cuts_arrive_in_memory_that_is_used_again(tmp_path):
    path = write_lmdb(tmp_path / "db", [datum(pixels(n), label=n) for n in range(5)])
    opened = source(f'data_param {{ source: "{path}" backend: LMDB batch_size: 2 }}')
    batches = Prefetched(opened, workers=2, ahead=4)
    pointers = [next(batches)[0].pixels.data_ptr() for _ in range(40)]
    batches.close()
    assert len(set(pointers)) <= 4 + HELD


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_is_the_same_and_leaves_no_process(opened, workers):
    batches = Prefetched(opened, start=1, workers=workers)
    next(batches)
    with pytest.raises(ImageError, match=r"^.*/db, key '00000004' is not an image") as caught:
        next(batches)
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


PROGRAM = """
import multiprocessing, os, signal, sys, time
from caffe2torch.data import Prefetched, open_source
from caffe2torch.io.prototxt import parse_prototxt
net = parse_prototxt('layer { name: "d" type: "DummyData" top: "a" dummy_data_param '
                     '{ shape { dim: 3 } data_filler { type: "uniform" } } }')
stopped = []
batches = Prefetched(open_source(net.layer[0], "TRAIN"), workers=2)
for _ in range(2):  # One of each process, which then has begun.
    next(batches)
for heard in (signal.SIGINT, signal.SIGHUP):
    signal.signal(heard, lambda *_: stopped.append(1))
workers = multiprocessing.active_children()
print(*[p.pid for p in workers], flush=True)
"""


def run_program(tmp_path, rest, before=""):
    """The program between two texts, its workers, and a check that they end with it."""
    text = textwrap.dedent(before) + PROGRAM + textwrap.dedent(rest)
    (tmp_path / "program.py").write_text(text)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as program:
        workers = [int(pid) for pid in program.stdout.readline().split()]
        assert len(workers) == 2
        yield program
        yield program.communicate(timeout=60)[0]
    for _ in range(50):
        if not any(os.path.exists(f"/proc/{pid}") for pid in workers):
            break
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)
    yield program.returncode


@pytest.mark.parametrize("heard", ["SIGINT", "SIGHUP"])
def test_ctrl_c_and_hanging_up_leave_no_process(tmp_path, heard):
    """The signal reaches all processes of a terminal; the batches in hand are still made."""
    steps = run_program(
        tmp_path,
        """
        while not stopped:
            next(batches)
        for _ in range(20):
            next(batches)
        batches.close()
        print("done")
        """,
    )
    os.killpg(next(steps).pid, signal.Signals[heard])
    assert next(steps) == "done\n"
    assert next(steps) == 0


@pytest.mark.slow
def test_a_worker_that_is_killed(tmp_path):
    steps = run_program(
        tmp_path,
        """
        os.kill(workers[0].pid, signal.SIGKILL)
        while True:
            next(batches)
        """,
    )
    next(steps)
    assert "which reads the data, was killed by SIGKILL before its work" in next(steps)
    assert next(steps) == 1


@pytest.mark.slow
def test_a_program_that_is_killed(tmp_path):
    steps = run_program(tmp_path, "time.sleep(60)")
    next(steps).kill()
    next(steps)
    assert next(steps) == -signal.SIGKILL


@pytest.mark.slow
def test_a_program_that_is_killed_before_a_worker_has_begun(tmp_path):
    late = """
        import time
        from caffe2torch.data import prefetch

        begin = prefetch._begin
        prefetch._begin = lambda worker: (time.sleep(worker), begin(worker))
    """
    steps = run_program(tmp_path, "time.sleep(60)", late)
    next(steps).kill()
    next(steps)
    assert next(steps) == -signal.SIGKILL


@pytest.mark.slow
def test_a_program_that_is_killed_while_workers_write_what_is_larger_than_a_pipe(tmp_path):
    large = """
        from caffe2torch.data import prefetch

        prefetch._Batches.__getitem__ = lambda source, index: ((bytes(1 << 20),), b"")
    """
    steps = run_program(tmp_path, "time.sleep(60)", large)
    next(steps).kill()
    next(steps)
    assert next(steps) == -signal.SIGKILL
