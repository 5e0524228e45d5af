"""A page that classifies images in a browser, as one file: model, ONNX Runtime Web and code.

A browser opens it from the disk or from any server, without a network: it fetches nothing, and
its content security policy forbids it to. Its pixels are made as ``preprocess`` makes them.
"""

from __future__ import annotations

import base64
import gzip
import html
import io
import json
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe2torch.errors import NetError, ReadError
from caffe2torch.io.atomic import atomic_write
from caffe2torch.preprocessing import PROTOCOLS, ShorterSide, Warp
from squeezenet.download import Published, cache_folder, fetch, models_folder
from squeezenet.export import graph_of
from squeezenet.weights import Loaded

PAGE = Path(__file__).with_name("page.html")
JAVASCRIPT = "package/dist/ort.wasm.bundle.min.mjs"
WASM = "package/dist/ort-wasm-simd-threaded.wasm"


class Runtime(Published):
    """The package of npm that ONNX Runtime Web is published as."""

    @property
    def use(self) -> str:
        """The option of the commands that write pages."""
        return f"--runtime {self.file}"


def published_runtime() -> Runtime:
    """The version of ONNX Runtime Web that pages are tested with."""
    path = models_folder() / "onnxruntime_web.json"
    return Runtime(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Example:
    """An image file that the page offers to try; browsers must be able to decode it."""

    name: str
    content: bytes


def write_page(
    loaded: Loaded,
    path: Path,
    *,
    title: str,
    about: str = "",
    examples: Sequence[Example] = (),
    runtime: Path | None = None,
) -> None:
    """Write the page of a SqueezeNet whose classes have names, or go by their numbers.

    Args:
        loaded: the model, its preprocessing and the names of its classes.
        path: the .html file.
        title: what the page is called.
        about: sentences on where the model comes from.
        examples: images to try.
        runtime: the file ``onnxruntime-web-VERSION.tgz``; None downloads it once into the cache.

    Raises:
        DownloadError: ONNX Runtime Web is not in the cache and cannot be downloaded.
        NetError: the net's input is made in a way that the page does not know.
        ReadError: ``runtime`` is not that file.
    """
    from caffe2torch.lower.to_onnx import complete, to_onnx

    published = published_runtime()
    record = record_of(loaded)
    package = fetch(published, cache_folder()) if runtime is None else runtime
    javascript, wasm = _members(published, package)
    model = complete(to_onnx(graph_of(loaded.model, loaded.transform.crop), batch=1))
    record["examples"] = [
        {"name": example.name, "data": base64.b64encode(example.content).decode()}
        for example in examples
    ]
    values = {
        "TITLE": html.escape(title),
        "ABOUT": html.escape(about),
        "RUNTIME": published.version,
        # A class may be called "</script>".
        "RECORD": json.dumps(record).replace("<", "\\u003c"),
        "JAVASCRIPT": _pack(javascript),
        "WASM": _pack(wasm),
        "MODEL": _pack(model.SerializeToString()),
    }
    page = PAGE.read_text(encoding="utf-8")
    page = re.sub("@([A-Z]+)@", lambda match: values[match[1]], page)
    with atomic_write(path) as file:
        file.write(page.encode())


def record_of(loaded: Loaded) -> dict[str, object]:
    """What the page's own code has to know of the net. Raises as ``write_page`` does."""
    transform, classes = loaded.transform, loaded.model.num_classes
    made = transform.preprocessing
    if transform.mean_image is not None:
        raise NetError(
            "the net was trained with a mean image, which a page cannot subtract: write .onnx"
        )
    protocol = PROTOCOLS[made.protocol]
    if not isinstance(protocol, (Warp, ShorterSide)):
        raise NetError(f"a page cannot resize as the protocol {made.protocol!r} does: write .onnx")
    names = loaded.class_names or tuple(map(str, range(classes)))
    if len(names) != classes:
        raise ReadError(
            f"there are {len(names)} class names, but the net has {classes} classes: "
            "give the right --synset-words"
        )
    return {
        "before": made.size_before((transform.crop, transform.crop)),
        "keepAspect": isinstance(protocol, ShorterSide),
        "cut": (transform.crop, transform.crop),
        "order": made.channel_order,
        "mean": (made.mean or (0.0,)) * (3 if len(made.mean) < 2 else 1),
        "scale": made.scale,
        "std": (made.std or (1.0,)) * (3 if len(made.std) < 2 else 1),
        "names": names,
    }


def _members(published: Published, package: Path) -> tuple[bytes, bytes]:
    """The two files of the package that a page holds."""
    try:
        with package.open("rb") as file:
            content = file.read(published.size + 1)
    except OSError as error:
        raise ReadError(f"cannot read {package}: {error.strerror or error}") from error
    fault = published.find_fault(content)
    if fault is not None:
        raise ReadError(
            f"{package} is not {published.name} {published.version}: {fault}. Fetch it from "
            f"{published.url}, or by `npm pack {published.name}@{published.version}`."
        )
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        files = [archive.extractfile(name) for name in (JAVASCRIPT, WASM)]
        javascript, wasm = (member.read() for member in files if member is not None)
    return javascript, wasm


def _pack(content: bytes) -> str:
    """Compressed with gzip, without a time so that the page is the same each time; in base64."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
