"""The results as Markdown tables and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMATS = ("safetensors", "onnx", "pt")


def tables(result: dict[str, Any]) -> str:
    """All sections that were run."""
    parts = [_machine(result)]
    if "start" in result:
        rows = [[name, f"{s:.2f} s"] for name, s in result["start"].items()]
        parts.append(_table(["command, whole process", "median"], rows))
    if "convert" in result:
        parts.append(_convert(result["convert"]))
    if "forward" in result:
        parts.append(_forward(result["forward"]))
    if "scaling" in result:
        parts.append(_convert(result["scaling"], " MB chain"))
    return "\n\n".join(parts) + "\n"


def beyond_start(figures: dict[str, Any], suffix: str) -> float:
    """Seconds of the conversion to ``suffix`` less those of a tiny net's."""
    whole, start = (figures[f"{name} .{suffix}"]["median_s"] for name in ("convert", "start"))
    return float(whole - start)


def write_plot(result: dict[str, Any], path: Path) -> None:
    """Time beyond start and private memory by file size, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "caffe2torch"
    from matplotlib import pyplot

    rows = list(result["scaling"].values())
    sizes = [row["bytes"] / 1e6 for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.loglog(sizes, [row["cp"]["median_s"] for row in rows], "k--", label="cp")
    for suffix in FORMATS:
        whole = [row[f"convert .{suffix}"] for row in rows]
        left.loglog(sizes, [m["median_s"] for m in whole], "o-", label=f".{suffix}, whole process")
        right.loglog(sizes, [m["private_mb"] for m in whole], "o-", label=f".{suffix}")
    right.loglog(sizes, sizes, "k:", label="size of the file")
    left.set_ylabel("seconds")
    right.set_ylabel("peak private memory, MB")
    for axes in (left, right):
        axes.set_xlabel("caffemodel, MB")
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {v}" for name, v in result["versions"].items())
    engines = ", ".join(sorted(set(result["engines"].values())))
    text = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['os']}; Python {result['python']}, {versions}"
    )
    return f"{text}{f'; measured: {engines}' if engines else ''}. Medians of {result['runs']}."


def _convert(nets: dict[str, Any], unit: str = "") -> str:
    peers = [n for n in ("OpenCV load", "MNN convert") if any(n in row for row in nets.values())]
    head = ["net", "size", "cp", *(f".{s}" for s in FORMATS), *peers]
    rows = []
    for net, row in nets.items():
        cp = row["cp"]["median_s"]
        cells = [f"{net}{unit}", f"{row['bytes'] / 1e6:.0f} MB", f"{cp:.2f} s"]
        for suffix in FORMATS:
            whole, beyond = row[f"convert .{suffix}"], beyond_start(row, suffix)
            cells.append(
                f"{whole['median_s']:.2f} s, {beyond / cp:.1f}x cp beyond start, "
                f"{whole['private_mb']:.0f} MB"
            )
        for peer in peers:
            cells.append(
                f"{row[peer]['median_s']:.2f} s, {row[peer]['private_mb']:.0f} MB"
                if peer in row
                else "-"
            )
        rows.append(cells)
    return _table(head, rows)


def _forward(nets: dict[str, dict[str, float]]) -> str:
    engines = list(dict.fromkeys(name for row in nets.values() for name in row))
    rows = []
    for net, row in nets.items():
        base = row.get("onnxruntime")
        cells = [
            f"{1e3 * row[name]:.1f} ms ({row[name] / base:.2f}x)" if name in row and base else "-"
            for name in engines
        ]
        rows.append([net, *cells])
    return _table(["net, batch", *engines], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
