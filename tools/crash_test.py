"""Kill real runs at random moments: ``python tools/crash_test.py --kills 100``.

Conversions to each format, exports of a pair of files, training snapshots and downloads are
killed (SIGKILL) and run again. After each kill the destination has to hold the whole old file
or a whole new one, the next run has to succeed, and no temporary file may stay. Three in four
kills are aimed at a write, the others fall anywhere in the life of the process; the table says
where they landed, by what they left. Then many processes load from one cold cache, and write
to one destination. Exit code 1: something was lost.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from crashing.cases import Case, Convert, LostError, Pair, Snapshot, downloads
from crashing.kills import Outcome, run_kills, table
from crashing.races import cold_loads, killed_holder, same_destination

CASES: dict[str, Callable[[Path, float], Case]] = {
    "safetensors": lambda root, size: Convert(root, ".safetensors", size),
    "onnx": lambda root, size: Convert(root, ".onnx", size),
    "pt": lambda root, size: Convert(root, ".pt", size),
    "pair": lambda root, size: Pair(root),
    "snapshot": lambda root, size: Snapshot(root),
}


def main() -> int:
    """Run, print the figures, and return 1 if something was lost."""
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        outcomes = [_kill(name, root, options) for name in options.case]
        print(table([outcome for outcome in outcomes if outcome]))
        faults = [fault for outcome in outcomes for fault in outcome.faults]
        if options.processes:
            faults += _race(root, options)
    print(*faults, sep="\n")
    print(f"{sum(o.kills for o in outcomes)} kills, seed {options.seed}: {len(faults)} faults")
    return 1 if faults else 0


def _kill(name: str, root: Path, options: argparse.Namespace) -> Outcome:
    began = time.monotonic()
    if name == "download":
        with downloads(root / name, options.seconds) as case:
            outcome = run_kills(case, options.kills, options.seed, options.interrupt)
    else:
        made = CASES[name](root / name, options.megabytes)
        outcome = run_kills(made, options.kills, options.seed, options.interrupt)
    print(f"{outcome.name}: {outcome.kills} kills in {time.monotonic() - began:.0f} s", flush=True)
    return outcome


def _race(root: Path, options: argparse.Namespace) -> list[str]:
    faults = []
    count = options.processes
    try:
        with downloads(root / "race", options.seconds) as case:
            requests = cold_loads(case, count)
            print(f"{count} loads from a cold cache: {requests} download")
            again = killed_holder(case, count)
            print(f"{count} loads while the process that downloads is killed: {again} downloads")
            if (requests, again) != (1, 2):
                faults.append(f"{requests} and {again} downloads, not 1 and 2")
        for race in (Convert(root / "c", ".safetensors", options.megabytes), Pair(root / "p")):
            print(
                f"{count} processes, one destination, {race.name}: {same_destination(race, count)}"
            )
    except LostError as error:
        faults.append(str(error))
    return faults


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [*CASES, "download"]
    parser.add_argument("--kills", type=int, default=100, help="of each case (100)")
    parser.add_argument(
        "--interrupt",
        action="store_true",
        help="send SIGINT (Ctrl-C) instead, after which nothing may be left",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--case",
        nargs="+",
        choices=names,
        default=names,
        metavar="CASE",
        help=f"which to kill: {', '.join(names)} (all)",
    )
    parser.add_argument("--megabytes", type=float, default=32, help="of the nets converted (32)")
    parser.add_argument("--seconds", type=float, default=0.5, help="that a download takes (0.5)")
    parser.add_argument("--processes", type=int, default=8, help="at once; 0: none (8)")
    parser.add_argument("--folder", help="where to work; the system's temporary folder")
    return parser  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
