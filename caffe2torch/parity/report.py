"""A check as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
import math
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from caffe2torch.errors import ParityError
from caffe2torch.images import read_image
from caffe2torch.io.atomic import atomic_write

if TYPE_CHECKING:
    from caffe2torch.parity.result import ParityReport

THUMBNAIL = 112
"""Longest side of a thumbnail in pixels."""
JPEG_QUALITY = 75
PLOT_REM = 4.2
"""Least size on the page of an inch of the plot, in rem: it scrolls where that is too wide."""
MOST_BLOBS = 400
"""Rows of the table of blobs; of a deeper net those that come closest to the tolerance."""


def require_libraries() -> None:
    """Raise ParityError unless the libraries of the ``report`` extra are installed."""
    for module in ("jinja2", "matplotlib"):
        if find_spec(module) is None:
            raise ParityError(
                f"the HTML report needs {module}, which is not installed: "
                'pip install "caffe2torch[report]".'
            )


def write_report(report: ParityReport, path: str | os.PathLike[str]) -> None:
    """Write the page of ``report`` to ``path``.

    Raises ParityError without the libraries of the ``report`` extra, ArtefactError where the
    file cannot be written.
    """
    page = render_report(report)
    with atomic_write(path) as file:
        # File names need not be text in any encoding.
        file.write(page.encode("utf-8", "backslashreplace"))


def render_report(report: ParityReport) -> str:
    """The page of ``report``: the content of ``to_dict``, plots and thumbnails.

    All names in it are escaped, and it has no scripts and asks for no other resource.
    """
    require_libraries()
    import jinja2

    from caffe2torch.parity.plots import error_plot, error_width, scatter_plot

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("caffe2torch.parity"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = _figure
    scatters = [scatter_plot(c, i) for i, c in enumerate(report.comparisons)]
    content = report.to_dict()
    return environment.get_template("report.html.j2").render(
        report=content,
        title=report.graph.name or os.path.basename(report.model),
        plot_rem=PLOT_REM * error_width(len(content["net"]["blobs"])),
        tables=[_nearest(pair["blobs"]) for pair in content["comparisons"]],
        blob_facts={blob["blob"]: blob for blob in content["net"]["blobs"]},
        error_plot=_uri(error_plot(report), "svg+xml"),
        scatters=[None if svg is None else _uri(svg, "svg+xml") for svg in scatters],
        thumbnails=[row.path and _thumbnail(row.path) for row in report.top5.rows],
        notes=[(f"{c.engine} / {c.baseline}", n) for c in report.comparisons for n in c.notes()],
        engines=_engines(content),
        bisection=[] if report.bisection is None else report.bisection.summary(),
    )


def _nearest(blobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most MOST_BLOBS of ``blobs`` in their order: those nearest to their tolerance."""

    def excess(blob: dict[str, Any]) -> float:
        limit = float(blob["limit"])
        return float(blob["max_abs"]) / limit if limit else math.inf

    kept = sorted(blobs, key=excess, reverse=True)[:MOST_BLOBS]
    names = {blob["blob"] for blob in kept}
    return [blob for blob in blobs if blob["blob"] in names]


def _engines(content: dict[str, Any]) -> list[str]:
    """The engines that ran, the baseline first."""
    pairs = content["comparisons"]
    return list(dict.fromkeys(name for p in pairs for name in (p["baseline"], p["engine"])))


def _figure(value: float | str) -> str:
    """A number as people read it: three digits."""
    return value if isinstance(value, str) else f"{value:.3g}"


def _thumbnail(path: str) -> str:
    import cv2

    image = read_image(path)
    factor = min(1.0, THUMBNAIL / max(image.shape[:2]))
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return _uri(data.tobytes(), "jpeg")


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
