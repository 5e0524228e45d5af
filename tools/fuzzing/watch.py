"""Worker processes that are fed inputs, and the watch over their time and memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import time
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAX_SECONDS = 2.0
"""Of the processor; all seeds are read in a few hundredths of a second."""
MAX_MEMORY = 200 << 20
MAX_RATIO = 10
"""Memory may grow by so many bytes, and by this multiple of the file."""
ADDRESS_SPACE = 4 << 30
"""Beyond what a worker starts with: keeps a mistake from taking the machine down."""
STUCK_SECONDS = 15.0
"""Without an end for so long, an input's process is killed."""
RESTART = 10_000
"""Inputs of one process, so that what libraries keep does not pile up."""


@dataclass
class Finding:
    """An input that was not read or refused as it should be."""

    number: int
    reader: str
    kind: str
    detail: str
    data: bytes


@dataclass
class Result:
    """How many inputs were run, by reader, how many of them accepted, and the findings."""

    run: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def run_all(
    seed: int, names: Sequence[str], first: int, count: int, workers: int, folder: Path
) -> Result:
    """Feed inputs ``first`` to ``first + count`` and gather what the workers report."""
    context = multiprocessing.get_context("spawn")
    end, size = first + count, min(RESTART, -(-count // workers))
    parts = deque(range(at, min(at + size, end)) for at in range(first, end, size))
    running = [_Worker(context, seed, names, parts, folder / str(i)) for i in range(workers)]
    total = Result()
    began = shown = time.monotonic()
    while sum(worker.watch(total) for worker in running):
        time.sleep(0.1)
        if time.monotonic() - shown > 30:
            shown = time.monotonic()
            done = sum(total.run.values())
            print(
                f"{done:,} run in {shown - began:.0f} s, {len(total.findings)} findings", flush=True
            )
    return total


class _Worker:
    """One process at a time, each for a part of the inputs; a new one goes on where one ended."""

    def __init__(
        self, context: Any, seed: int, names: Sequence[str], parts: deque[range], folder: Path
    ) -> None:
        self.context, self.seed, self.names, self.parts = context, seed, list(names), parts
        self.folder = folder
        self.part = range(0)
        folder.mkdir(parents=True, exist_ok=True)
        self.position = 0
        self.running = self._next()

    def _next(self) -> bool:
        """Start a process for what is left of this part, or for the next; False at the end."""
        if self.position == len(self.part):
            if not self.parts:
                return False
            self.part, self.position = self.parts.popleft(), 0
        self._start()
        return True

    def _start(self) -> None:
        self.now = self.context.Value("q", -1)
        self.reports, child = self.context.Pipe(False)
        part = self.part[self.position :]
        arguments = (self.seed, self.names, part, self.folder, self.now, child)
        self.process = self.context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        child.close()
        self.seen, self.since = -1, time.monotonic()

    def watch(self, total: Result) -> bool:
        """Take reports; end a process that is stuck; False once all inputs were run."""
        if not self.running:
            return False
        ended = False
        with contextlib.suppress(EOFError, OSError):
            while self.reports.poll():
                self._take(self.reports.recv(), total)
        if not self.process.is_alive():
            ended = True
            with contextlib.suppress(EOFError, OSError):
                while self.reports.poll():
                    self._take(self.reports.recv(), total)
        elif self.now.value != self.seen:
            self.seen, self.since = self.now.value, time.monotonic()
        elif self.seen >= 0 and time.monotonic() - self.since > STUCK_SECONDS:
            self.process.kill()
            self.process.join()
            self._lost(total, "hang", f"more than {STUCK_SECONDS:.0f} s")
            ended = True
        if not ended:
            return True
        code = self.process.exitcode
        if code not in (0, -9):
            self._lost(total, "crash", f"the process ended with {code}")
        self.running = self._next()
        return self.running

    def _take(self, report: tuple[int, Result], total: Result) -> None:
        done, part = report
        self.position += done
        total.run += part.run
        total.accepted += part.accepted
        for finding in part.findings:
            _add(total, finding)

    def _lost(self, total: Result, kind: str, detail: str) -> None:
        number = self.now.value
        if number < 0:
            raise SystemExit(f"a worker {detail} before its first input")
        _add(total, Finding(number, "", kind, detail, b""))
        total.run["lost"] += 1
        self.position = self.part.index(number) + 1


def _add(total: Result, finding: Finding) -> None:
    total.findings.append(finding)
    print(f"found: input {finding.number} {finding.reader}: {finding.kind}", flush=True)


def _work(seed: int, names: list[str], part: range, folder: Path, now: Any, reports: Any) -> None:
    from fuzzing.targets import TARGETS, Corpus, feed, prepare

    prepare()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C libraries write of damage to stderr.
    corpus = Corpus(seed, names, folder)
    for name in names:  # What is loaded at first use is no input's memory.
        sound = corpus.seeds[name][0]
        with contextlib.suppress(Exception):
            data, extra = (
                (sound[1].read_bytes(), sound[0]) if isinstance(sound, tuple) else (sound, None)
            )
            for deep in (False, True):
                feed(name, data, extra, deep, folder / f"warm{TARGETS[name].suffix}")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_SPACE, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    result, done = Result(), 0
    for number in part:
        now.value = number
        name, data, extra, deep = corpus.input(number)
        path = folder / f"input{TARGETS[name].suffix}"
        base = _reset_peak()
        began = time.process_time()
        try:
            result.accepted[name] += feed(name, data, extra, deep, path)
        except BaseException as error:
            where = "".join(traceback.format_exception(error, limit=-6))
            result.findings.append(Finding(number, name, type(error).__name__, where, data))
        result.run[name] += 1
        done += 1
        if time.process_time() - began > MAX_SECONDS and (
            slow := _again(name, data, extra, deep, path)
        ):
            result.findings.append(Finding(number, name, "slow", f"{slow:.1f} s", data))
        grown = _peak() - base
        if grown > MAX_MEMORY + MAX_RATIO * len(data):
            detail = f"{grown >> 20} MiB"
            result.findings.append(Finding(number, name, "memory", detail, data))
        if done >= 200:
            reports.send((done, result))
            result, done = Result(), 0
    reports.send((done, result))
    reports.close()
    os._exit(0)


def _again(name: str, data: bytes, extra: Any, deep: bool, path: Path) -> float:
    """The least time of two more runs if it is too long: the first may have loaded a library."""
    from fuzzing.targets import feed

    times = []
    for _ in range(2):
        began = time.process_time()
        with contextlib.suppress(BaseException):
            feed(name, data, extra, deep, path)
        times.append(time.process_time() - began)
    return min(times) if min(times) > MAX_SECONDS else 0.0


def _reset_peak() -> int:
    """Make the memory in use now the most that was ever used, and return it.

    So an input answers for what it takes itself, not for what a library has kept of those
    before it.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The most memory that was in use at a time, in bytes, since the last reset."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
