"""Commands in fresh processes: wall time and the most memory that is theirs alone."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PERIOD_S = 0.002
"""Between two looks at a process' memory."""


@dataclass
class Measured:
    """Runs of one command."""

    wall_s: list[float] = field(default_factory=list)
    private_mb: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        """The median wall time."""
        return statistics.median(self.wall_s)

    @property
    def peak_mb(self) -> float | None:
        """The most private memory (anonymous pages, not mapped files), where it can be had."""
        return max(self.private_mb, default=None)


def run(command: Sequence[str], into: Measured) -> None:
    """Run ``command`` once. Raises SystemExit with its output if it fails."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # Some tools call pip, which must not find an index.
        env={**os.environ, "PIP_NO_INDEX": "1"},
    )
    peak = 0
    if sys.platform == "linux":
        while process.poll() is None:
            peak = max(peak, _private_kb(process.pid))
            time.sleep(PERIOD_S)
    output, _ = process.communicate()
    into.wall_s.append(time.perf_counter() - start)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{output.decode(errors='replace')}")
    if peak:
        into.private_mb.append(peak / 1000)


def run_all(
    cases: Mapping[str, tuple[Sequence[str], Path | None]],
    runs: int,
    report: Callable[[str], None],
    replace: bool = False,
) -> dict[str, Measured]:
    """Run the commands in turn, ``runs`` times.

    The file that a command writes is new every time, or with ``replace`` takes the place of
    that of the run before (the first of which is not counted).
    """
    results = {name: Measured() for name in cases}
    for number in range(-1 if replace else 0, runs):
        report(f"  run {number + 1} of {runs}")
        for name, (command, output) in cases.items():
            if output is not None:
                for path in [] if replace else output.parent.glob(f"{output.name}*"):
                    path.unlink()
                os.sync()  # What the run before left to be written is not this one's work.
            run(command, results[name] if number >= 0 else Measured())
    return results


def _private_kb(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon")]
    return int(found[0]) if found else 0
