"""What a GPU makes of SqueezeNet: one command of at most eight minutes, a table for the docs.

    python tools/bench_gpu.py --json gpu.json

Needs the checkout, torch, numpy and OpenCV, and nothing else; images are synthetic. It measures
training steps and forward passes of v1.1 in each precision and order of memory, compiled and as
CUDA graphs; how much of the copy to the device hides behind the computing; the optimiser beside
torch's; decoding, on the GPU too where torchvision is installed; and what the hardware could do:
products of large matrices, memory and bus. At the end it says which options gain here.

Each row is printed, and written to the file of --json, as soon as it is measured. A row that cannot
be measured says why, and the next one follows; one that takes more than --most seconds, as
compiling may, is given up. After --seconds no further row is begun, and what is left is named.
``--device cpu --seconds 20`` tries the program out where there is no GPU.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # The package need not be installed.
sys.path.insert(0, str(Path(__file__).parent))

from gpu.rows import Bench, MissingError, Work, multiplications

from caffe2torch.io.atomic import atomic_write, check_writable
from squeezenet.model import SqueezeNet

Found = dict[str, "tuple[float, str] | str"]
"""By row: the rate and its unit, or why there is none."""

WARMUP = 3
"""Pieces of work that are not timed."""
SHARE = 1 / 3
"""Of the time of a row that is measured; the rest is for preparing it."""
GRACE = 30.0
"""Seconds after which a row that cannot be interrupted ends the program."""
GAIN = 1.05
"""How many times as fast an option must be to be worth it."""
BEST = "train bf16, channels last"
CHOICES = (
    ("--channels-last in fp32 (default: no)", "train fp32, channels last", "train fp32"),
    ("TF32 in place of fp32", "train tf32", "train fp32"),
    ("--precision bf16", BEST, "train fp32"),
    ("--channels-last in bf16 (default: yes)", BEST, "train bf16"),
    ("--precision fp16 in place of bf16", "train fp16, channels last", BEST),
    ("torch.backends.cudnn.benchmark", f"{BEST}, cuDNN tuned", BEST),
    ("--compile", f"{BEST}, compiled", BEST),
    ("CUDA graphs in place of that", f"{BEST}, CUDA graph", f"{BEST}, compiled"),
    ("CUDA graphs beside it", f"{BEST}, compiled with CUDA graphs", f"{BEST}, compiled"),
    ("torch's fused update", "update by torch fused", "update by Caffe's SGD"),
)
"""An option, the row with it, and the row that it is compared with."""


class OverTimeError(BaseException):
    """A row's time is over. No ``except Exception`` on the way, as compilers have, catches it."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise OverTimeError in the block after so many seconds, where the system has such alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise OverTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # Again, if something catches it after all.
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def rate(work: Work, seconds: float, wait: Callable[[], None]) -> float:
    """Work done a second; the device is waited for once in about a tenth of the time."""
    for _ in range(WARMUP):
        work()
    wait()
    start = time.perf_counter()
    work()
    wait()
    at_once = max(1, int(seconds / 10 / max(time.perf_counter() - start, 1e-6)))
    done, start = 0.0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += sum(work() for _ in range(at_once))
        wait()
    return done / (time.perf_counter() - start)


def measure(bench: Bench, seconds: float, most: float, note: Callable[[Found], None]) -> Found:
    """All rows; ``note`` gets each as it is found. None takes more than ``most`` seconds."""
    found: Found = {}
    rows, end = list(bench.rows()), time.perf_counter() + seconds
    for name, unit, prepare in rows:
        found[name] = _row(unit, prepare, bench, seconds / len(rows) * SHARE, most, end)
        note({name: found[name]})
        try:
            # What a failed row held is freed, after an error of the GPU as far as it lets itself.
            gc.collect()
            if bench.on_gpu:
                torch.cuda.empty_cache()
        except Exception:
            continue
    return found


def _row(
    unit: str, prepare: Callable[[], Work], bench: Bench, seconds: float, most: float, end: float
) -> tuple[float, str] | str:
    left = min(most, end - time.perf_counter())
    if left <= 0:
        return "left out: the time is over"
    try:
        with limited(left):
            return rate(prepare(), seconds, bench.wait), unit
    except OverTimeError:
        return f"left out: not done after {left:.0f} s"
    except MissingError as reason:
        return f"left out: {reason}"
    except Exception as error:  # A row that this machine cannot do must not cost the others.
        return f"failed: {next(filter(None, str(error).splitlines()), repr(error))}"


def machine(device: torch.device) -> str:
    """What measures and is measured."""
    versions = f"torch {torch.__version__}, OpenCV {cv2.__version__}"
    if device.type == "cpu":
        return f"CPU, {torch.get_num_threads()} threads, {versions}"
    made = torch.cuda.get_device_properties(device)
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]  # untyped in torch
    return f"{made.name}, {made.total_memory >> 30} GiB, {versions}, cuDNN {cudnn}"


def table_row(name: str, value: tuple[float, str] | str, flops: int) -> str:
    """In Markdown; a step is three forward passes of ``flops`` operations an image."""
    if isinstance(value, str):
        return f"| {name} | - | {value} | |"
    amount, unit = value
    passes = {"train": 3, "classify": 1}.get(name.split()[0], 0)
    work = amount / 1e3 if unit == "GFLOP/s" else amount * passes * flops / 1e12
    return f"| {name} | {amount:,.0f} | {unit} | {f'{work:.2f}' if work else ''} |"


def advice(found: Found) -> Iterator[str]:
    """Which options gain here, and what it takes to feed the fastest step."""
    rates = {name: value[0] for name, value in found.items() if isinstance(value, tuple)}
    for option, chosen, other in CHOICES:
        if chosen in rates and other in rates:
            factor = rates[chosen] / rates[other]
            yield f"- {option}: {'yes' if factor >= GAIN else 'no'}, {factor:.2f} times as fast"
        else:
            yield f"- {option}: not measured"
    steps = [name for name in rates if name.startswith("train ")]
    decoded = rates.get("decode, one core")
    if steps and decoded:
        fastest = max(steps, key=rates.__getitem__)
        cores = rates[fastest] / decoded
        yield f"- Cores that decode what '{fastest}' takes: {cores:.1f}, from packed pixels fewer"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cuda", "cpu"], default=chosen)
    parser.add_argument("--batch-size", type=int, help="256 on a GPU, 8 on a CPU")
    parser.add_argument("--seconds", type=float, default=420.0, help="for all rows; default: 420")
    parser.add_argument("--most", type=float, default=75.0, help="for one row; default: 75")
    parser.add_argument("--json", type=Path, help="write the rates there, too")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("this torch sees no GPU: install one built for CUDA, or give --device cpu")
    if given.json:
        check_writable(given.json)
    device = torch.device(given.device)
    size = given.batch_size or {"cuda": 256, "cpu": 8}[device.type]
    title = f"{machine(device)}, batches of {size}"
    flops = 2 * multiplications(SqueezeNet("1.1"))
    print(f"{title}\n\n| | rate | | TFLOP/s |\n|---|---|---|---|", flush=True)
    found: Found = {}

    def note(row: Found) -> None:
        found.update(row)
        for name, value in row.items():
            print(table_row(name, value, flops), flush=True)
        if given.json:
            with atomic_write(given.json) as file:
                report = {"machine": title, "rates": found, "advice": list(advice(found))}
                file.write((json.dumps(report, indent=1) + "\n").encode())

    def finish() -> None:
        print("", *advice(found), sep="\n", flush=True)

    def give_up() -> None:
        finish()
        os._exit(1)

    watch = threading.Timer(given.seconds + GRACE, give_up)
    watch.daemon = True
    watch.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))
    try:
        measure(Bench(device, size), given.seconds, given.most, note)
    finally:
        watch.cancel()
        finish()


if __name__ == "__main__":
    main()
