"""Feed damaged files to every reader: ``python tools/fuzz.py --count 200000 --seed 0``.

Each input takes the whole path of a file: it is read, its graph is built, and a part of them
is lowered to torch and ONNX. An input must be read or end in a Caffe2TorchError, within 2
seconds, with memory of no more than ten times the file and 200 MB; whatever else happens is a
finding, saved to the folder of --findings. Input N of a seed is always the same:
``--first N --count 1`` runs it again.

The reader ``optimize`` makes random nets of all layers instead, and runs each beside its optimised
form on inputs of several sizes and layouts: ``--reader optimize --count 20000``.

``--atheris --reader NAME`` looks for inputs by coverage instead (pip install atheris); what
follows ``--`` goes to libFuzzer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing.targets import TARGETS, Corpus, feed, prepare
from fuzzing.watch import Result, run_all


def main() -> int:
    """Run, print the figures, and return 1 if there are findings."""
    options = _parser().parse_args()
    names = options.reader or list(TARGETS)
    with tempfile.TemporaryDirectory(dir=_memory_folder()) as folder:
        if options.atheris:
            return _by_coverage(names[0], options, Path(folder))
        began = time.monotonic()
        result = run_all(
            options.seed, names, options.first, options.count, options.workers, Path(folder)
        )
        _report(result, options, time.monotonic() - began, Path(folder))
    return 1 if result.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--count", type=int, default=10_000, help="inputs to run [10000]")
    parser.add_argument("--seed", type=int, default=0, help="of the damage [0]")
    parser.add_argument("--first", type=int, default=0, help="number of the first input [0]")
    parser.add_argument("--reader", action="append", choices=list(TARGETS), help="only this one")
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder")
    parser.add_argument("--atheris", action="store_true", help="coverage-guided, one reader")
    parser.add_argument("arguments", nargs="*", help="for libFuzzer, after --")
    return parser


def _memory_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _report(result: Result, options: argparse.Namespace, seconds: float, folder: Path) -> None:
    run = sum(result.run.values())
    print(f"{run:,} inputs, seed {options.seed}, {seconds:.0f} s, {run / seconds:.0f} a second")
    for name in result.run:
        print(f"  {name:12} {result.run[name]:8,} run  {result.accepted[name]:8,} accepted")
    print(f"{len(result.findings)} findings")
    corpus: Corpus | None = None
    for finding in result.findings:
        if not finding.reader:  # Its process was lost, and the input with it.
            corpus = corpus or Corpus(options.seed, options.reader or list(TARGETS), folder)
            finding.reader, finding.data, _, _ = corpus.input(finding.number)
        stem = f"{finding.reader}-{finding.number}-{finding.kind}"
        options.findings.mkdir(parents=True, exist_ok=True)
        (options.findings / f"{stem}{TARGETS[finding.reader].suffix}").write_bytes(finding.data)
        (options.findings / f"{stem}.txt").write_text(finding.detail)
        last = finding.detail.strip().splitlines()[-1][:200]
        print(f"  input {finding.number} ({finding.reader}): {finding.kind}: {last}")


def _by_coverage(name: str, options: argparse.Namespace, folder: Path) -> int:
    import atheris

    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    with atheris.instrument_imports(include=["caffe2torch", "squeezenet"]):
        prepare()
        sound = target.load(folder)
        extra = sound[0][0] if isinstance(sound[0], tuple) else None
        for number, seed in enumerate(sound):
            data = seed[1].read_bytes() if isinstance(seed, tuple) else seed
            (corpus / str(number)).write_bytes(data)
            feed(name, data, extra, number % 2 == 1, folder / f"input{target.suffix}")

    def run(data: bytes) -> None:
        feed(name, data, extra, len(data) % 2 == 1, folder / f"input{target.suffix}")

    options.findings.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            "fuzz",
            str(corpus),
            f"-artifact_prefix={options.findings}/",
            "-timeout=10",
            f"-seed={options.seed or 1}",
            f"-runs={options.count}",
            *options.arguments,
        ],
        run,
    )
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
