"""Run the nets of the world through every engine: ``python tools/wild.py --nets nets.zip``.

The archive holds prototxts and, beside some, caffemodels; an ``index.tsv`` beside it (columns
repository, path and kind: deploy, train_val or caffemodel) says what to run. Without an index
every prototxt in the archive is run, and those with ``train`` in their names count as train_val.

Each net is read (in phase TEST, or in the phase that its error advises), run by torch, ONNX Runtime
and the torch module in float64 on the same input, and by OpenCV's own Caffe reader. Its weights are
those of a caffemodel beside it that fits, else He-scaled random numbers in a caffemodel that the
package writes. Shapes that a net does not say are guessed from names; images are no larger than
--size where the net takes that. Blobs are judged as ``caffe2torch parity`` judges them: by layers
in float64 where rounding is amplified, with the known faults of OpenCV. Outcomes:

* ``right``: torch and ONNX Runtime agree, and OpenCV too where it can run the net; what float64
  shows beside is noted;
* ``different``: the engine, and the type of the first layer whose blob differs;
* ``refused``: an error of the package, with its reason and the stage it came from;
* ``crash``: any other error, or the end of the process;
* ``timeout``: more time, memory or values than --seconds and --memory allow.

Nets that are not right are listed by the reason, of wilding/reasons.py, that a reader of the net
would sign; those that have none are called unexplained.

Every net has a process of its own. Its finding is a line of OUT/nets.tsv; a net that has a line
is not run again, so that a run can be stopped and gone on with (remove the file to start
afresh). --read stops after reading, which takes a minute for a thousand nets. The tables are
made of all lines: outcomes and reasons, and what the refused nets lack. "Alone" counts the nets
that lack nothing else that is known of; an error may wait behind it.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from wilding.judge import (
    CRASH,
    OUTCOMES,
    READ,
    REFUSED,
    RIGHT,
    SIDE,
    TIMEOUT,
    Finding,
    Net,
    judge,
)
from wilding.reasons import signed

EXAMPLES = 3
"""Nets that a line of a table names."""
COLUMNS = [field.name for field in fields(Finding)]


def main() -> int:
    """Run, print the tables, and return 1 if a net crashed or differs."""
    options = _parser().parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    record = options.out / "nets.tsv"
    done = read_findings(record)
    with tempfile.TemporaryDirectory(prefix="wild-") as folder:
        nets = [
            net for net in unpack(options.nets, Path(folder)) if fnmatch(net.name, options.only)
        ]
        waiting = [net for net in nets if net.name not in done]
        limits = Limits(options.seconds, options.memory << 20)
        work = Work(limits, options.read, options.size)
        for finding in run_all(waiting, Path(folder), options.jobs, work):
            done[finding.net] = finding
            append(record, finding)
            count = f"{len(done)}/{len(nets)}"
            print(f"{count:>9} {finding.outcome:9} {finding.net}: {finding.reason}", flush=True)
    shown = [done[net.name] for net in nets]
    print(table(shown))
    return int(any(f.outcome in ("crash", "different") for f in shown))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--nets", type=Path, required=True, help="ZIP archive of nets")
    parser.add_argument("--only", default="*", help="nets whose name fits this pattern")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time [2]")
    parser.add_argument("--out", type=Path, default=Path("wild-findings"), help="folder")
    parser.add_argument("--seconds", type=float, default=120, help="for a net [120]")
    parser.add_argument("--memory", type=int, default=8192, help="MiB for a net [8192]")
    parser.add_argument("--size", type=int, default=SIDE, help=f"of images, in pixels [{SIDE}]")
    parser.add_argument("--read", action="store_true", help="run no engine")
    return parser


@dataclass(frozen=True)
class Limits:
    """Wall-clock seconds and bytes of address space of a net's process, beyond its start."""

    seconds: float
    memory: int


@dataclass(frozen=True)
class Work:
    """What is done with each net: the limits, whether it is only read, the size of images."""

    limits: Limits
    read_only: bool = False
    side: int = SIDE


def unpack(archive: Path, folder: Path) -> list[Net]:
    """The nets of the archive, in ``folder``, in the order of the index or by name."""
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder / "nets")
        names = sorted(file.namelist())
    models = [folder / "nets" / name for name in names if name.endswith(".caffemodel")]
    index = archive.with_name("index.tsv")
    if index.is_file():
        with index.open(newline="") as lines:
            rows = csv.DictReader(lines, delimiter="\t")
            kinds = {f"{r['repository'].replace('/', '+')}/{r['path']}": r["kind"] for r in rows}
    else:
        kinds = {name: _kind(name) for name in names if not name.endswith("/")}
    nets = []
    for name, kind in kinds.items():
        path = folder / "nets" / name
        beside = [model for model in models if model.parent == path.parent]
        beside.sort(key=lambda model: model.stem != path.stem)
        nets.append(Net(name, kind, path, () if kind == "caffemodel" else tuple(beside)))
    return nets


def _kind(name: str) -> str:
    if name.endswith(".caffemodel"):
        return "caffemodel"
    return "train_val" if "train" in Path(name).name else "deploy"


def run_all(nets: Sequence[Net], folder: Path, jobs: int, work: Work) -> Iterator[Finding]:
    """Run each net in a process of its own, ``jobs`` at a time; findings as they come."""
    context: Any = multiprocessing.get_context("forkserver")
    # Imported once; each net's process is a copy.
    context.set_forkserver_preload(["wilding.judge", "torch", "onnxruntime", "onnx", "cv2"])
    waiting, running = list(reversed(nets)), list[_Running]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_Running(context, waiting.pop(), folder, work))
        time.sleep(0.02)
        for process in list(running):
            finding = process.ended()
            if finding is not None:
                running.remove(process)
                yield finding


class _Running:
    """The process of one net, and the watch over its time."""

    def __init__(self, context: Any, net: Net, folder: Path, work: Work) -> None:
        self.net, self.limits, self.stage = net, work.limits, "start"
        self.began = time.monotonic()
        self.folder = tempfile.TemporaryDirectory(dir=folder)
        self.reports, child = context.Pipe(duplex=False)
        arguments = (net, Path(self.folder.name), work, child)
        self.process = context.Process(target=_work, args=arguments, daemon=True)
        self.process.start()
        child.close()

    def ended(self) -> Finding | None:
        """The finding, once there is one."""
        found = self._received()
        if found is None and time.monotonic() - self.began > self.limits.seconds:
            self.process.kill()
            found = self._lost(TIMEOUT, f"more than {self.limits.seconds:.0f} s")
        if found is None and not self.process.is_alive():
            # What it sent last may have come since.
            code = self.process.exitcode
            found = self._received() or self._lost(CRASH, f"the process ended with {code}")
        if found is not None:
            self.process.join()
            self.reports.close()
            self.folder.cleanup()
        return found

    def _received(self) -> Finding | None:
        try:
            while self.reports.poll():
                report = self.reports.recv()
                if isinstance(report, Finding):
                    return report
                self.stage = report
        except (EOFError, OSError):
            pass
        return None

    def _lost(self, outcome: str, reason: str) -> Finding:
        seconds = round(time.monotonic() - self.began, 1)
        return Finding(self.net.name, self.net.kind, outcome, self.stage, reason, seconds=seconds)


def _work(net: Net, folder: Path, work: Work, reports: Connection) -> None:
    """What the process of a net does: judge it within its limits, and report."""
    import warnings
    from dataclasses import replace

    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    quiet = os.open(os.devnull, os.O_WRONLY)  # Libraries write of what is reported here.
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + work.limits.memory, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    began = time.monotonic()
    finding = judge(net, folder, reports.send, work.read_only, work.side)
    reports.send(replace(finding, seconds=round(time.monotonic() - began, 1)))
    reports.close()
    os._exit(0)


def append(record: Path, finding: Finding) -> None:
    """Add a line to the record, under a head where it is new."""
    new = not record.exists()
    with record.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(asdict(finding))


def read_findings(record: Path) -> dict[str, Finding]:
    """The findings of a record by net; none where there is no such file."""
    if not record.exists():
        return {}
    with record.open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {
            row["net"]: Finding(**{**row, "seconds": float(row["seconds"])})  # type: ignore[arg-type]
            for row in rows
        }


def table(findings: Sequence[Finding]) -> str:
    """Markdown tables: outcomes, what refused nets lack, and what became of OpenCV."""
    refused = [f for f in findings if f.outcome == REFUSED]
    lines = [f"{len(findings)} nets", "", "| outcome | nets | share |", "|---|---|---|"]
    for outcome in OUTCOMES:
        count = sum(f.outcome == outcome for f in findings)
        lines.append(f"| {outcome} | {count} | {count / max(len(findings), 1):.1%} |")
    for outcome in OUTCOMES[1:]:
        chosen = [f for f in findings if f.outcome == outcome]
        lines += _groups(
            f"{outcome}: reason (stage)", chosen, lambda f: [f"{f.reason} ({f.stage})"]
        )
    wrong = [f for f in findings if f.outcome not in (RIGHT, READ)]
    lines += _groups("signed reason of a net that is not right", wrong, lambda f: [signed(f) or ""])
    lines += _groups("unexplained", [f for f in wrong if not signed(f)], lambda f: [f.reason])
    lines += _lacking(refused)
    lines += _groups("rounding and known faults", findings, _judged)
    lines += _groups("OpenCV", [f for f in findings if f.opencv], lambda f: [f.opencv])
    return "\n".join(lines)


def _judged(finding: Finding) -> list[str]:
    """Which engines differ from torch by what, without the numbers of blobs."""
    return [part.rsplit(" ", 1)[0] for part in finding.judged.split("; ") if part]


def _lacking(refused: Sequence[Finding]) -> list[str]:
    """The types and fields that nets lack, and the sets of them."""
    alone: dict[str, int] = defaultdict(int)
    for finding in refused:
        parts = finding.lacks.split("; ")
        alone[parts[0]] += len(parts) == 1
    each = _groups("lacking", refused, lambda f: f.lacks.split("; "), alone)
    return each + _groups("set that is lacking", refused, lambda f: [f.lacks])


def _groups(
    title: str,
    findings: Sequence[Finding],
    keys: Callable[[Finding], list[str]],
    alone: dict[str, int] | None = None,
) -> list[str]:
    """A table of the findings by key, the most frequent first; none where it would be empty."""
    groups: dict[str, list[str]] = defaultdict(list)
    for finding in findings:
        for key in filter(None, keys(finding)):
            groups[key].append(finding.net)
    if not groups:
        return []
    extra = " alone |" if alone is not None else ""
    lines = [
        "",
        f"| {title} | nets |{extra} for example |",
        "|---|---|---|" + ("---|" if extra else ""),
    ]
    for key, nets in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        count = f" {alone[key]} |" if alone is not None else ""
        text = key.replace("|", "/")
        lines.append(f"| {text} | {len(nets)} |{count} {', '.join(nets[:EXAMPLES])} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
