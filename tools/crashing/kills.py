"""Kill a process at random moments, and see what it leaves."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crashing.cases import NEW, NONE, OLD, Case, LostError, Snapshot, finish

PLACES = (
    "before the write",
    "in the transfer",
    "file empty",
    "file partly written",
    "file written, not named",
    "between renames",
    "after the rename",
    "run was over",
)
DURING = PLACES[2:6]
LOST = "neither"
_WATCH_S = 0.0002


@dataclass
class Outcome:
    """Where the kills of a case landed, and what was lost."""

    name: str
    places: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    left_overs: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How many there were."""
        return sum(self.places.values())

    @property
    def during(self) -> int:
        """How many landed between the creation of a temporary file and its last rename."""
        return sum(self.places[place] for place in DURING)


@dataclass(frozen=True)
class _Life:
    """An undisturbed run: its length, its writes in order, the largest temporary file."""

    seconds: float
    writes: list[float]
    size: int


def run_kills(case: Case, kills: int, seed: int, interrupt: bool = False) -> Outcome:
    """Kill ``case`` so often; after each kill, check the files and let the work run again.

    With ``interrupt`` the process gets what Ctrl-C sends (SIGINT) instead of SIGKILL, and has
    to remove its temporary files itself.
    """
    choose = random.Random(f"{case.name} {seed}")
    outcome = Outcome(case.name)
    _watch_a_life(case)  # The first run in a while is slower than those that follow.
    life = _watch_a_life(case)
    for number in range(kills):
        case.reset()
        process = case.start()
        if choose.random() < case.aimed:
            which = choose.randrange(len(life.writes))
            _await_write(case.folder, which, life.seconds * 20)
            time.sleep(choose.uniform(0, life.writes[which]))
        else:
            time.sleep(choose.uniform(0, life.seconds))
        sending = case.sending
        assert process.pid
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGINT if interrupt else signal.SIGKILL)
        process.join()
        try:
            found = case.found()
        except LostError as error:
            found = LOST
            outcome.faults.append(f"kill {number}: {error}")
        left = _temporaries(case.folder)
        outcome.found[found] += 1
        outcome.left_overs += len(left)
        outcome.places[_place(left, found, sending, process.exitcode, life)] += 1
        if left and interrupt:
            outcome.faults.append(f"kill {number}: the process left {[p.name for p in left]}")
        try:
            finish(case.start(), case.log)
            _check_whole(case)
        except LostError as error:
            outcome.faults.append(f"run after kill {number}: {error}")
    return outcome


def _check_whole(case: Case) -> None:
    if case.found() != NEW or (isinstance(case, Snapshot) and not case.is_complete):
        raise LostError("the next run did not write the new file")
    more = {path.name for path in case.folder.iterdir()} - case.keeps
    if more:
        raise LostError(f"after the next run there are still {sorted(more)}")


def _watch_a_life(case: Case) -> _Life:
    case.reset()
    began = time.perf_counter()
    process = case.start()
    seen: dict[str, tuple[float, float]] = {}
    size = 0
    while process.is_alive():
        now = time.perf_counter()
        for path in _temporaries(case.folder):
            seen[path.name] = (seen.get(path.name, (now, now))[0], now)
            size = max(size, _size(path))
        time.sleep(_WATCH_S)
    finish(process, case.log)
    seconds = time.perf_counter() - began
    if not seen:
        raise LostError(f"{case.name}: no write was seen")
    return _Life(seconds, [end - start for start, end in seen.values()], size)


def _await_write(folder: Path, which: int, at_most: float) -> None:
    """Return when the write of that number, from 0, has begun."""
    seen: set[str] = set()
    deadline = time.perf_counter() + at_most
    while len(seen) <= which and time.perf_counter() < deadline:
        seen.update(path.name for path in _temporaries(folder))
        time.sleep(_WATCH_S)


def _place(left: list[Path], found: str, sending: bool, exit_code: int | None, life: _Life) -> str:
    """Where the kill landed, by what it left."""
    if any("caffe2torch-old" in path.name for path in left):
        return "between renames"
    if left:
        size = max(_size(path) for path in left)
        return "file empty" if not size else DURING[1 if size < life.size else 2]
    if exit_code == 0:
        return "run was over"
    if sending:
        return "in the transfer"
    return "before the write" if found == OLD else "after the rename"


def _temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if ".caffe2torch-" in path.name]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as text: a row for each place, a column for each case."""
    width = max(len(outcome.name) for outcome in outcomes) + 2
    rows = [("", [outcome.name for outcome in outcomes])]
    rows += [(place, [str(o.places[place]) for o in outcomes]) for place in PLACES]
    rows += [("kills", [str(o.kills) for o in outcomes])]
    rows += [("during a write", [str(o.during) for o in outcomes])]
    rows += [
        (f"found {what}", [str(o.found[what]) for o in outcomes]) for what in (OLD, NEW, NONE, LOST)
    ]
    rows += [("temporaries left, then removed", [str(o.left_overs) for o in outcomes])]
    rows += [("faults", [str(len(o.faults)) for o in outcomes])]
    return "\n".join(
        head.ljust(32) + "".join(cell.rjust(width) for cell in cells) for head, cells in rows
    )
