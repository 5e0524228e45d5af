"""Check the project in environments of other versions, and print a table.

Makes one virtual environment for each combination, installs the project as a wheel with the
packages pinned, and runs tools/compat_check.py in it::

    python tools/compat.py                       # all combinations
    python tools/compat.py protobuf-4 opencv-5   # some
    python tools/compat.py --json compat.json

torch is not installed again: the environments see that of the Python which runs this tool.
Where it does not fit (another Python), everything that needs no torch is checked. A Python
that is not on this machine is named as not found and not checked.
"""

from __future__ import annotations

import argparse
import email
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STEPS = ("import", "version", "onnx", "torch", "opencv")
CHECK = ROOT / "tools" / "compat_check.py"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Combination:
    """One environment: its pins, and the Python if not the one that runs this tool."""

    name: str
    pins: tuple[str, ...] = ()
    python: str = HERE


COMBINATIONS = (
    Combination("protobuf-4", ("protobuf==4.*",)),
    Combination("protobuf-5", ("protobuf==5.*",)),
    Combination("protobuf-6", ("protobuf==6.*",)),
    Combination("protobuf-7", ("protobuf==7.*",)),
    Combination("opencv-4", ("opencv-python-headless==4.*",)),
    Combination("opencv-5", ("opencv-python-headless==5.*",)),
    Combination(
        "oldest",
        (
            "protobuf==4.25.0",
            "onnx==1.15.0",
            "onnxruntime==1.17.0",
            "opencv-python-headless==4.8.0.76",
            "safetensors==0.4.2",
            "click==8.1.0",
            "filelock==3.12.0",
            "rich==13.0.0",
            "numpy==1.24.2",  # What onnxruntime 1.17.0 accepts.
        ),
    ),
    Combination("python-3.10", python="3.10"),
    Combination("python-3.12", python="3.12"),
    Combination("python-3.13", python="3.13"),
)


def find_python(wanted: str) -> str | None:
    """A Python of the version ``wanted`` that starts, on the path or among pyenv's."""
    if wanted == HERE:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [shutil.which(f"python{wanted}")]
    places += [str(path) for path in sorted(pyenv.glob(f"versions/{wanted}.*/bin/python"))]
    for place in filter(None, places):
        code = "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"
        done = subprocess.run([place, "-c", code], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == wanted:
            return place
    return None


def build_wheel(folder: Path) -> Path:
    """The project as a wheel, built from a copy so that nothing is left in the tree."""
    source = folder / "source"
    leave = shutil.ignore_patterns(".*", "__pycache__", "tests", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=leave)
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(source))
    return next(folder.glob("*.whl"))


def requirements(wheel: Path) -> list[str]:
    """What the wheel requires, without its extras."""
    (info,) = (path for path in zipfile.Path(wheel).iterdir() if path.name.endswith(".dist-info"))
    requires = email.message_from_string((info / "METADATA").read_text()).get_all("Requires-Dist")
    return [text for text in requires or () if "extra ==" not in text]


def share_torch(folder: Path) -> Path:
    """A folder of links to torch and what it requires, in the Python that runs this tool."""
    folder.mkdir()
    pending, seen = ["torch"], set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # Required on another platform only.
        pending += [_name(text) for text in found.requires or () if "extra ==" not in text]
        for top in {file.parts[0] for file in found.files or () if ".." not in file.parts}:
            target = Path(str(found.locate_file(top)))
            if top != "__pycache__" and target.exists():
                (folder / top).symlink_to(target)
    return folder


def try_out(
    item: Combination, python: str, wheel: Path, torch: Path, record: Path, folder: Path
) -> dict[str, Any]:
    """Make the environment of ``item`` and run the check in it."""
    place = folder / item.name
    call(python, "-m", "venv", str(place))
    inner = str(place / "bin" / "python")
    if item.python == HERE:
        site = next(place.glob("lib/python*/site-packages"))
        (site / "torch_of_the_base.pth").write_text(f"{torch}\n")
    needs = [text for text in requirements(wheel) if _name(text) != "torch"]
    call(inner, "-m", "pip", "install", "-q", "--prefer-binary", *needs, *item.pins)
    call(inner, "-m", "pip", "install", "-q", "--no-deps", str(wheel))
    done = subprocess.run(
        [inner, str(CHECK), "check", str(record)], capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        raise RuntimeError(f"the check ended with {done.returncode}: {done.stderr[-1000:]}")
    sys.stderr.write(done.stderr if "Traceback" in done.stderr else "")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def call(*command: str) -> None:
    """Run a command. Raises RuntimeError with what it says of its failure."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        causes = [line for line in lines if line.startswith("ERROR")] or lines[-5:]
        raise RuntimeError(f"{' '.join(causes)} ({' '.join(command[1:5])} ...)")


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| environment | Python | protobuf | onnx | ONNX Runtime | OpenCV | convert to ONNX "
        "| torch and parity | readNetFromCaffe |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        if "error" in result:
            lines.append(
                f"| {name} | {result['python']} " + "| - " * 4 + f"| {result['error']} |||"
            )
            continue
        shown = [result["versions"][p] for p in ("protobuf", "onnx", "onnxruntime")]
        shown += [result["versions"]["opencv-python-headless"]]
        first = next((result[k] for k in ("import", "version") if result[k] is not True), None)
        cells = [_cell(first or result["onnx"]), _cell(result["torch"]), _cell(result["opencv"])]
        lines.append(f"| {name} | {result['python']} | {' | '.join([*shown, *cells])} |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "no torch, not checked"
    return "ok" if value is True else str(value).replace("|", "/").split("\n")[0][:100]


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def main() -> int:
    """Run the combinations; exit code 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="combinations; all if none is named")
    parser.add_argument("--json", help="also write the results to this file")
    options = parser.parse_args()
    known = [item.name for item in COMBINATIONS]
    if set(options.names) - set(known):
        parser.error(f"known combinations are {', '.join(known)}")
    chosen = [c for c in COMBINATIONS if not options.names or c.name in options.names]
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, torch = build_wheel(folder), share_torch(folder / "torch")
        record = folder / "record.npz"
        call(sys.executable, str(CHECK), "save", str(record))
        for item in chosen:
            python = find_python(item.python)
            try:
                if python is None:
                    raise FileNotFoundError("this Python is not found, not checked")
                results[item.name] = try_out(item, python, wheel, torch, record, folder)
            except (RuntimeError, FileNotFoundError) as error:
                sys.stderr.write(f"{item.name}: {error}\n")
                results[item.name] = {"python": item.python, "error": str(error).split("\n")[0]}
            shutil.rmtree(folder / item.name, ignore_errors=True)
    print(table(results))
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2) + "\n")
    tried = [r for r in results.values() if "not found" not in r.get("error", "")]
    passed = [all(r.get(step, False) in (True, None) for step in STEPS) for r in tried]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
