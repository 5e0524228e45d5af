"""Speed and memory of conversion and inference, beside cp and the engines of others.

    python tools/bench.py --out docs
    python tools/bench.py --torchvision-python ENV/bin/python --mnn-python ENV/bin/python

Nets and weights are generated; no network is needed. Every figure is a median of fresh
processes that take turns: --runs of them, and about half as many for the forward passes of
the larger nets and for the scaling. The files land in --out: performance.json, performance.svg and
performance.md, the tables.

"Beyond start" is the time of a conversion less that of the same command on a net of a few
kilobytes: what the weights cost. ratio is that against ``cp`` of the same file. Private memory
is the peak of the anonymous pages, sampled; pages of the mapped file are not in it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parent))

from benchmark.nets import NETS, linear_chain, write_chain, write_net
from benchmark.process import Measured, run_all
from benchmark.report import tables, write_plot

from caffe2torch.commands import OutputFolder

ENGINES = Path(__file__).parent / "benchmark" / "engines.py"
FORMATS = ("safetensors", "onnx", "pt")
SIZES_MB = (5, 50, 500, 2200)
THREADS = 2
BATCHES = (1, 16)
COMMAND = [sys.executable, "-m", "caffe2torch"]
SECTIONS = ("start", "convert", "forward", "scaling")


class Bench:
    """What the sections share: where files lie, how often to run, and what was found."""

    def __init__(self, folder: Path, runs: int, peers: dict[str, str | None]) -> None:
        self.folder, self.runs, self.peers = folder, runs, peers
        self.result: dict[str, Any] = {}
        self.versions: dict[str, str] = {}

    def start(self) -> None:
        """How long the commands take that read no weights, and SqueezeNet to ONNX."""
        self._tiny()
        squeezenet = self.folder / "squeezenet_v1.1"
        small = self.folder / "small.onnx"
        cases = {
            "python -c pass": ([sys.executable, "-c", "pass"], None),
            "caffe2torch --help": ([*COMMAND, "--help"], None),
            "inspect squeezenet_v1.1": ([*COMMAND, "inspect", f"{squeezenet}.caffemodel"], None),
            "convert squeezenet_v1.1 to .onnx": (
                [*COMMAND, "convert", f"{squeezenet}.caffemodel", str(small)],
                small,
            ),
        }
        measured = run_all(cases, self.runs, click.echo)
        self.result["start"] = {name: m.median_s for name, m in measured.items()}

    def convert(self) -> None:
        """Every net to every format, cp, and the loading of the same file by others."""
        tiny = self._tiny()
        self.result["convert"] = {}
        for net in NETS:
            click.echo(f"convert {net}")
            stem = self.folder / net
            path = stem.with_name(f"{net}.caffemodel")
            cases = self._conversions(path, tiny)
            size = path.stat().st_size
            if net == "vgg16":
                replaced = run_all(cases, self.runs, click.echo, replace=True)
                row = {"bytes": size, **_figures(replaced)}
                self.result["convert"]["vgg16, replacing a file"] = row
            measured = run_all(cases | self._loads(stem), self.runs, click.echo)
            self.result["convert"][net] = {"bytes": size, **_figures(measured)}
            for path in self.folder.glob("out*"):
                path.unlink()

    def forward(self) -> None:
        """Forward passes of all nets in all engines."""
        self.result["forward"] = {}
        for net in NETS:
            self._prepare(net)
            for batch in BATCHES if net.startswith("squeezenet") else BATCHES[:1]:
                click.echo(f"forward {net}, batch {batch}")
                self.result["forward"][f"{net} x{batch}"] = self._forward(net, batch)

    def scaling(self) -> None:
        """Time and memory by the size of the file."""
        tiny = self._tiny()
        self.result["scaling"] = {}
        for megabytes in SIZES_MB:
            click.echo(f"scaling {megabytes} MB")
            path = write_chain(megabytes, self.folder)
            measured = run_all(self._conversions(path, tiny), self.runs // 2 + 1, click.echo)
            size = path.stat().st_size
            self.result["scaling"][str(megabytes)] = {"bytes": size, **_figures(measured)}
            path.unlink()
            for written in self.folder.glob("out*"):
                written.unlink()

    def _tiny(self) -> Path:
        path = self.folder / "tiny.caffemodel"
        if not path.exists():
            write_net(linear_chain(1, outputs=4), self.folder / "tiny")
        return path

    def _conversions(self, path: Path, tiny: Path) -> dict[str, tuple[list[str], Path | None]]:
        copy = self.folder / "out.copy"
        cases: dict[str, tuple[list[str], Path | None]] = {
            "cp": (["cp", str(path), str(copy)], copy)
        }
        for suffix in FORMATS:
            for name, source in (("start", tiny), ("convert", path)):
                output = self.folder / f"out.{name}.{suffix}"
                command = [*COMMAND, "convert", str(source), str(output)]
                cases[f"{name} .{suffix}"] = (command, output)
        return cases

    def _loads(self, stem: Path) -> dict[str, tuple[list[str], Path | None]]:
        cases: dict[str, tuple[list[str], Path | None]] = {}
        files = f"{stem}.prototxt", f"{stem}.caffemodel"
        code = f"import cv2; cv2.dnn.readNetFromCaffe({files[0]!r}, {files[1]!r})"
        cases["OpenCV load"] = ([sys.executable, "-c", code], None)
        cases["import cv2"] = ([sys.executable, "-c", "import cv2"], None)
        mnn = self._mnn_convert(stem, self.folder / "out.mnn")
        if mnn:
            cases["MNN convert"] = (mnn, self.folder / "out.mnn")
        return cases

    def _mnn_convert(self, stem: Path, output: Path) -> list[str] | None:
        python = self.peers["mnn"]
        if python is None:
            return None
        tool = str(Path(python).parent / "mnnconvert")
        files = ["--modelFile", f"{stem}.caffemodel", "--prototxt", f"{stem}.prototxt"]
        return [tool, "-f", "CAFFE", *files, "--MNNModel", str(output), "--bizCode", "bench"]

    def _prepare(self, net: str) -> None:
        """The files that the engines load."""
        import caffe2torch

        stem = self.folder / net
        files = f"{stem}.caffemodel", f"{stem}.prototxt"
        graph = caffe2torch.read(*files)
        Path(f"{stem}.shape").write_text(" ".join(map(str, graph.inputs[0].shape)))
        caffe2torch.convert(files[0], f"{stem}.onnx", files[1])
        if self.peers["mnn"]:
            command = self._mnn_convert(stem, Path(f"{stem}.mnn"))
            assert command
            subprocess.run(command, capture_output=True, check=False, env=_environment(command[0]))
        if net.startswith("squeezenet"):
            _torch_export(caffe2torch.load(*files), f"{stem}_exported.onnx")

    def _forward(self, net: str, batch: int) -> dict[str, float]:
        stem = str(self.folder / net)
        here = sys.executable
        cases = {
            "onnxruntime": (here, "onnxruntime", stem),
            "caffe2torch": (here, "eager", stem),
            "caffe2torch optimized": (here, "optimized", stem),
            "OpenCV": (here, "opencv", stem),
        }
        if Path(f"{stem}_exported.onnx").exists():
            cases["onnxruntime on torch.onnx"] = (here, "onnxruntime", f"{stem}_exported")
        if self.peers["mnn"] and Path(f"{stem}.mnn").exists():
            cases["MNN"] = (self.peers["mnn"], "mnn", stem)
        if self.peers["torchvision"] and net == "squeezenet_v1.1":
            cases["torchvision"] = (self.peers["torchvision"], "torchvision", stem)
        times: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(self.runs if net.startswith("squeezenet") else self.runs // 2 + 1):
            for name, (python, engine, model) in cases.items():
                self._measure(name, [python, str(ENGINES), engine, model, str(batch)], times)
        return {name: sorted(t)[len(t) // 2] for name, t in times.items() if t}

    def _measure(self, name: str, command: list[str], times: dict[str, list[float]]) -> None:
        done = subprocess.run(
            [*command, str(THREADS), "1"],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(command[0]),
        )
        if done.returncode:
            click.echo(f"  {name} failed: {done.stderr.strip().splitlines()[-1:]}")
            return
        found = json.loads(done.stdout.splitlines()[-1])
        times[name].append(found["seconds"])
        self.versions[name] = found["version"]


def _environment(python: str) -> dict[str, str]:
    """The environment of ``python`` and no other: MNN calls ``pip install`` when imported."""
    path = os.pathsep.join((str(Path(python).parent), "/usr/bin", "/bin"))
    return {**os.environ, "PATH": path, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _figures(measured: dict[str, Measured]) -> dict[str, Any]:
    return {
        name: {"median_s": m.median_s, "private_mb": m.peak_mb, "runs_s": m.wall_s}
        for name, m in measured.items()
    }


def _torch_export(module: Any, path: str) -> None:
    """What torch's own exporter makes of the same net."""
    import warnings

    import torch

    x = torch.zeros(module.caffe_graph.inputs[0].shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (x,),
            path,
            dynamo=False,
            input_names=["data"],
            dynamic_axes={"data": {0: "N"}},
        )


def _machine() -> dict[str, Any]:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory),
        "os": platform.platform(),
    }


@click.command()
@click.option("--out", type=OutputFolder(path_type=Path), default=Path("."), show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--only", multiple=True, type=click.Choice(SECTIONS), help="Sections to run.")
@click.option("--work", type=click.Path(path_type=Path), help="Where the nets are kept.")
@click.option("--torchvision-python", help="A Python that has torchvision.")
@click.option("--mnn-python", help="A Python that has MNN.")
def main(
    out: Path,
    runs: int,
    only: tuple[str, ...],
    work: Path | None,
    torchvision_python: str | None,
    mnn_python: str | None,
) -> None:
    """Run the sections and write the results."""
    folder = work or Path(tempfile.mkdtemp(prefix="caffe2torch-bench-"))
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(folder, runs, {"torchvision": torchvision_python, "mnn": mnn_python})
    try:
        for net, text in NETS.items():
            if not (folder / f"{net}.caffemodel").exists():
                click.echo(f"generate {net}")
                write_net(text(), folder / net)
        for section in only or SECTIONS:
            getattr(bench, section)()
    finally:
        if work is None:
            shutil.rmtree(folder)
    names = ("caffe2torch", "torch", "onnx", "onnxruntime", "opencv-python-headless", "numpy")
    result = {
        "machine": _machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "engines": bench.versions,
        "runs": runs,
        **bench.result,
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "performance.json").write_text(json.dumps(result, indent=1) + "\n")
    report = tables(result)
    (out / "performance.tables.md").write_text(report)
    if "scaling" in result:
        write_plot(result, out / "performance.svg")
    click.echo(report)


if __name__ == "__main__":
    main()
