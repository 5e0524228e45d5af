"""The pictures of a report, as SVG."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from caffe2torch.parity.result import Comparison, ParityReport

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")
"""Of the pairs of engines, in their order; told apart with any colour vision."""
FAIL = "#b3261e"
MOST_LABELS = 70
"""Blobs that are named below the plot; of a deeper net every second, third, ... is."""
LABEL = 32
"""Longest name below the plot, in characters."""
STYLE = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "caffe2torch",
    "axes.prop_cycle": f"cycler(color={list(COLOURS)}, marker={list('osD^v')})",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "xtick.color": "#3c4048",
    "ytick.color": "#3c4048",
    "grid.color": "#e3e5e9",
}
"""A blob may be called ``$x$``, which is no formula; the same report gives the same SVG."""


def error_plot(report: ParityReport) -> bytes:
    """Largest error of each blob along the net by pair of engines, on a log scale.

    Errors are relative to the blob's peak, or absolute where the tolerance is. The line of
    the tolerance and the first blob above it are marked.
    """
    from matplotlib.ticker import NullLocator

    shown = {blob for comparison in report.comparisons for blob in comparison.differences}
    order = [blob for blob in report.graph.blobs if blob in shown]
    position = {blob: x for x, blob in enumerate(order)}
    lowest = _lowest(report)
    with _figure(error_width(len(order)), height=4.2) as figure:
        axes = figure.subplots()
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda y, _: f"1e{round(math.log10(y))}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y")
        for comparison in report.comparisons:
            _draw_errors(axes, comparison, position, lowest)
        _draw_limits(axes, report, position)
        _mark_first(axes, report, position)
        relative = report.tolerance is None
        axes.set_ylabel("largest error / peak of the blob" if relative else "largest error")
        axes.set_ylim(bottom=lowest / 2)
        axes.margins(x=0.01)
        step = math.ceil(len(order) / MOST_LABELS)
        axes.set_xticks(range(0, len(order), step), [_label(b) for b in order[::step]], rotation=90)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
        return _svg(figure)


def error_width(blobs: int) -> float:
    """The width in inches of the plot of so many blobs."""
    return min(60, max(10.4, 0.17 * blobs + 1.2))


def scatter_plot(comparison: Comparison, index: int) -> bytes | None:
    """The logits of one engine over the other's; None if there are no finite ones.

    ``index`` is the pair's place in the report, which gives its colour.
    """
    pairs = [pair for pair in comparison.sample.pairs.tolist() if all(map(math.isfinite, pair))]
    if not pairs:
        return None
    with _figure(width=3.4, height=3.4) as figure:
        axes = figure.subplots()
        low, high = min(map(min, pairs)), max(map(max, pairs))
        axes.axline((low, low), slope=1, color="#8a8f98", linewidth=0.8, zorder=1)
        first, second = zip(*pairs, strict=True)
        axes.scatter(first, second, s=9, alpha=0.6, linewidths=0, color=f"C{index}", zorder=2)
        margin = 0.05 * (high - low) or 1
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(low - margin, high + margin)
        axes.set_aspect("equal")
        axes.set_xlabel(comparison.baseline)
        axes.set_ylabel(comparison.engine)
        return _svg(figure)


def _draw_errors(
    axes: Axes, comparison: Comparison, position: Mapping[str, int], lowest: float
) -> None:
    errors = [_error(d, comparison.tolerance) for d in comparison.blobs]
    # Nothing and infinity have no place on a log scale: they are drawn at its ends.
    axes.plot(
        [position[d.blob] for d in comparison.blobs],
        [max(y, lowest) if math.isfinite(y) else 1e3 for y in errors],
        markersize=3.5,
        linewidth=1,
        label=f"{comparison.engine} / {comparison.baseline}",
    )


def _draw_limits(axes: Axes, report: ParityReport, position: Mapping[str, int]) -> None:
    limits: dict[int, float] = {}
    for comparison in report.comparisons:
        for d in comparison.blobs:
            limit = d.limit(report.tolerance)
            scale = d.peak if report.tolerance is None else 1
            if scale:
                limits.setdefault(position[d.blob], limit / scale)
    shown = sorted((x, y) for x, y in limits.items() if y > 0)
    axes.plot(
        *zip(*shown, strict=True) if shown else ((), ()),
        marker="",
        color=FAIL,
        linewidth=1,
        linestyle="--",
        label="tolerance",
        gid="tolerance",
    )


def _mark_first(axes: Axes, report: ParityReport, position: Mapping[str, int]) -> None:
    found = [c.first_divergence for c in report.comparisons if c.first_divergence is not None]
    if not found:
        return
    blob = min(found, key=lambda name: position[name])
    axes.axvline(position[blob], color=FAIL, linewidth=1.2)
    late = position[blob] > len(position) / 2
    axes.annotate(
        f"first divergence: {_label(blob)}",
        (position[blob], 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if late else 4, 0),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        color=FAIL,
        gid="first-divergence",
    )


def _error(difference: Any, tolerance: float | None) -> float:
    return float(difference.max_rel if tolerance is None else difference.max_abs)


def _lowest(report: ParityReport) -> float:
    """A tenth of the smallest error that is not zero: where zeros are drawn."""
    errors = [_error(d, report.tolerance) for c in report.comparisons for d in c.blobs]
    usual = [e for e in errors if 0 < e < math.inf]
    return max(min(usual, default=1e-8) / 10, 1e-30)


def _label(name: str) -> str:
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)
    return printable if len(printable) <= LABEL else printable[: LABEL - 1] + "…"


@contextmanager
def _figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches, apart from any state of pyplot's."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # The browser has glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
