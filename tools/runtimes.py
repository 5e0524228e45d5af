"""Run the recorded nets in the programs that nets are deployed to, and write docs/runtimes.md.

Makes an environment for each consumer of `caffe2torch convert --for`, with the packages pinned in
its file, writes each net for it, has it run the net, and compares with genuine Caffe's outputs::

    python tools/runtimes.py                        # every consumer
    python tools/runtimes.py openvino tract         # some
    python tools/runtimes.py tract --only 'ssd_*'   # some nets: prints them, and writes no page
    python tools/runtimes.py --page                 # only the page, of what was measured before

A consumer whose files its own library writes is measured by this program in that environment, which
has the packages of this one, too. One that runs on another platform has its files written alone.

A net that ends its consumer's process is a finding like others. What was measured is kept in
FOLDER/NAME.jsonl, a line a net, so that a run that was stopped goes on; remove it to begin anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import venv
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from running.nets import NAMED, Net, all_nets, without_spare_rows
from running.page import write_page

from caffe2torch.consumers import Consumer, consumer, consumer_names
from caffe2torch.consumers._convert import differences, refuse_unread
from caffe2torch.consumers._process import Process
from caffe2torch.errors import Caffe2TorchError, EngineError
from caffe2torch.io.arrays import ignore

ROOT = Path(__file__).resolve().parent.parent
CASES = ROOT / "tests" / "conformance" / "cases"
RECORD = ROOT / "docs" / "runtimes.json"
RIGHT, WRONG, FAILS, REFUSED = "right", "wrong", "fails", "refused"
CONVERTED = "converted"
"""Written, and not run: the consumer is one of another platform."""
OUTCOMES = (RIGHT, CONVERTED, REFUSED, FAILS, WRONG)
SECONDS = 120.0
"""For one net in a consumer, if it is not said."""
LONGEST = 400
"""Characters of an error that are kept."""
SIMPLIFIERS = {"onnxsim": "onnxsim==0.8.1", "onnxslim": "onnxslim==0.1.98"}
"""Programs that rewrite a file, as users do before they deploy it, by the module's name."""


@dataclass(frozen=True)
class Finding:
    """What became of a net; ``detail`` says why it is not right."""

    net: str
    outcome: str
    detail: str = ""


def main() -> int:
    """Measure and write. Returns 1 if a net is wrong or fails."""
    options = _parser().parse_args()
    known = consumer_names()
    if set(options.names) - set(known):
        print(f"known consumers are {', '.join(known)}", file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.nice(10)
    options.folder.mkdir(parents=True, exist_ok=True)
    bad = 0
    for name in () if options.page else options.names or known:
        try:
            if python := elsewhere(consumer(name), options):
                bad += _measured_by(python, name, options) != 0
                continue
            findings = measure(consumer(name), options)
        except subprocess.CalledProcessError as error:
            print(f"{name}: no environment: {error}", file=sys.stderr)
            continue
        bad += sum(finding.outcome in (WRONG, FAILS) for finding in findings)
        print(f"{name}: {counts(findings)}")
        if options.only == "*" and options.cases == CASES:
            keep(consumer(name), findings)
    if options.only == "*" and options.cases == CASES:
        write_page(RECORD, ROOT / "docs" / "runtimes.md")
    return int(bad > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", help="consumers; all if none is named")
    parser.add_argument("--only", default="*", help="nets whose name fits this pattern")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "runtimes")
    parser.add_argument("--cases", type=Path, default=CASES, help="recorded nets, a folder each")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for a net in a consumer")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    return parser


def elsewhere(chosen: Consumer, options: argparse.Namespace) -> str | None:
    """The Python of the environment that this consumer's files are written in; None if here."""
    if chosen.suffix == ".onnx":
        return None
    python = environment(options.folder, chosen.name, chosen.packages, over=True)
    return python if python and Path(python) != Path(sys.executable) else None


def _measured_by(python: str, name: str, options: argparse.Namespace) -> int:
    """Have this program measure the consumer in its environment; not 0 where a net is not right."""
    call = [python, __file__, name, "--only", options.only, "--seconds", str(options.seconds)]
    call += ["--folder", str(options.folder), "--cases", str(options.cases)]
    return subprocess.run(call, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode


def measure(chosen: Consumer, options: argparse.Namespace) -> list[Finding]:
    """Every net for the consumer; what was recorded before is taken from the record."""
    record = options.folder / f"{chosen.name}.jsonl"
    done = {finding.net: finding for finding in read_findings(record)}
    python: str | None = sys.executable
    simplifiers = None
    if chosen.suffix == ".onnx":
        python = environment(options.folder, chosen.name, chosen.packages, chosen.node_packages)
        simplifiers = environment(options.folder, "simplifiers", tuple(SIMPLIFIERS.values()))
    nets = [n for n in all_nets(options.cases) if fnmatch(n.name, options.only)]
    found = []
    with (
        TemporaryDirectory(prefix="runtimes-") as folder,
        Process(chosen, python or sys.executable, options.seconds) as process,
    ):
        for net in nets:
            names = [net.name]
            if net.name in NAMED and chosen.suffix == ".onnx" and python:
                names += [f"{net.name}+{module}" for module in SIMPLIFIERS]
            missing = [name for name in names if name not in done]
            for finding in judge(chosen, process, net, missing, Path(folder), simplifiers):
                if finding.outcome not in (RIGHT, CONVERTED):
                    print(f"  {finding.net}: {finding.outcome}: {finding.detail}", flush=True)
                with record.open("a") as file:
                    file.write(json.dumps(asdict(finding)) + "\n")
                done[finding.net] = finding
            found += [done[name] for name in names if name in done]
    return found


def judge(
    chosen: Consumer,
    process: Process,
    net: Net,
    names: Sequence[str],
    folder: Path,
    simplifiers: str | None,
) -> Iterator[Finding]:
    """The net as it is written, and as each simplifier leaves it (``NET+SIMPLIFIER``)."""
    if not names:
        return
    path = folder / f"{net.name}{chosen.suffix}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = net.read()
            chosen.write(graph, path, half=False, durable=False, progress=ignore, **chosen.form)
        if chosen.suffix == ".onnx":
            refuse_unread(chosen, graph, path)
    except Caffe2TorchError as error:
        yield from (Finding(name, REFUSED, str(error)) for name in names)
        return
    inputs, outputs = net.arrays(graph)
    for name in names:
        _, _, module = name.partition("+")
        given = path
        if module:
            given = path.with_name(f"{name}.onnx")
            call = [str(simplifiers), "-c", CALLS[module], str(path), str(given)]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode:
                yield Finding(name, FAILS, f"{module}: {done.stderr.strip()[-200:]}")
                continue
        if not chosen.packages and not chosen.node_packages:
            yield Finding(name, RIGHT)  # By its list alone.
            continue
        if chosen.platform not in ("", sys.platform):
            yield Finding(name, CONVERTED)
            continue
        expected = _by_name_of_file(given, outputs)
        try:
            shapes = {name: array.shape for name, array in expected.items()}
            values = without_spare_rows(graph, process.run(given, inputs, shapes))
        except EngineError as error:
            yield Finding(name, FAILS, str(error).partition(" Stack backtrace")[0][:LONGEST])
            continue
        causes = list(differences(graph, values, expected))
        yield Finding(name, WRONG if causes else RIGHT, "; ".join(causes))


CALLS = {
    "onnxsim": "import onnx, onnxsim, sys; model, right = onnxsim.simplify(sys.argv[1]); "
    "assert right; onnx.save(model, sys.argv[2])",
    "onnxslim": "import onnx, onnxslim, sys; onnx.save(onnxslim.slim(sys.argv[1]), sys.argv[2])",
}
"""What each simplifier is called with."""


def _by_name_of_file(path: Path, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """``outputs``, in the order of the net, by the names that an .onnx file has for them."""
    if path.suffix != ".onnx":
        return dict(outputs)
    import onnx

    names = [info.name for info in onnx.load(path, load_external_data=False).graph.output]
    return dict(zip(names, outputs.values(), strict=True))


def environment(
    folder: Path,
    name: str,
    packages: Sequence[str],
    node_packages: Sequence[str] = (),
    *,
    over: bool = False,
) -> str | None:
    """The Python of an environment with the packages, made if it is not there; None for none.

    It is one ``over`` this one if it has this one's packages, too.
    """
    if not packages and not node_packages:
        return None
    place = (folder / "environments" / name).resolve()
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    if over and not (paths := sites(place) / "base.pth").exists():
        paths.write_text("\n".join(filter(os.path.isdir, sys.path[1:])))
    marker = place / "installed"
    wanted = "\n".join((*packages, *node_packages))
    if not marker.exists() or marker.read_text() != wanted:
        pip = [str(python), "-m", "pip", "install", "-q", "numpy", "onnx", *packages]
        subprocess.run(pip, check=True)
        if node_packages:
            subprocess.run(["npm", "install", "--prefix", place, *node_packages], check=True)
        marker.write_text(wanted)
    return str(python)


def sites(place: Path) -> Path:
    """The folder of an environment's packages."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(place)}))


def read_findings(record: Path) -> list[Finding]:
    """The findings of a record; none where there is no such file."""
    if not record.exists():
        return []
    return [Finding(**json.loads(line)) for line in record.read_text().splitlines()]


def counts(findings: Sequence[Finding]) -> str:
    """How many nets came to which outcome."""
    total: dict[str, int] = defaultdict(int)
    for finding in findings:
        total[finding.outcome] += 1
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(total.items()))


def keep(chosen: Consumer, findings: Sequence[Finding]) -> None:
    """Put the findings on a consumer into the record that the page is made of."""
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    plain = [finding for finding in findings if "+" not in finding.net]
    simplified = [finding for finding in findings if "+" in finding.net]
    record[chosen.name] = {
        "packages": [*chosen.packages, *chosen.node_packages],
        "counts": {o: sum(f.outcome == o for f in plain) for o in OUTCOMES},
        "others": {
            f.net: [f.outcome, f.detail] for f in plain if f.outcome not in (RIGHT, CONVERTED)
        },
        "simplified": {
            module: [
                f.net.removesuffix(f"+{module}")
                for f in simplified
                if f.net.endswith(f"+{module}") and f.outcome != RIGHT
            ]
            for module in SIMPLIFIERS
            if simplified
        },
    }
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    sys.exit(main())
