"""The page for browsers: in headless Chromium, against OpenCV and ONNX Runtime."""

from __future__ import annotations

import base64
import dataclasses
import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browsers import chromium, requests
from click.testing import CliRunner

from caffe2torch.cli import main
from caffe2torch.engines.onnxruntime import Session
from caffe2torch.images import read_class_names, read_image
from caffe2torch.preprocessing import Preprocessing
from squeezenet.cli import main as squeezenet
from squeezenet.demo import find_sample
from squeezenet.download import cache_folder
from squeezenet.export import graph_of
from squeezenet.preprocess import Transform
from squeezenet.web import published_runtime, record_of
from squeezenet.weights import Loaded, load_model

PROBABILITY = 1e-4
"""Of a probability: float32 sums in another order, and a level of a pixel here and there."""
LEVELS = 1
"""Of a resized pixel, as sums in another order may round to another level."""
ROUNDED_WEIGHTS = 0.06
"""Share of pixels that are off by that where OpenCV rounds its weights."""
OFF = 1e-3 if cv2.ipp.useIPP() else ROUNDED_WEIGHTS
"""It does without Intel's library."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of ONNX Runtime Web: the cached one, or from npm."""
    published = published_runtime()
    cached = cache_folder() / published.file
    if cached.is_file():
        return cached
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, or onnxruntime-web in the cache: caffe2torch demo --web")
    folder = tmp_path_factory.mktemp("npm")
    wanted = f"{published.name}@{published.version}"
    done = subprocess.run([npm, "pack", "--silent", wanted], cwd=folder, capture_output=True)
    if done.returncode:
        pytest.skip(f"npm cannot fetch {wanted}")
    return folder / published.file


@pytest.fixture(scope="module")
def page(runtime: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "a folder"
    result = CliRunner().invoke(
        main, ["demo", "--web", "--out", str(out), "--runtime", str(runtime)]
    )
    assert result.exit_code == 0, result.output
    assert [path.name for path in out.iterdir()] == ["index.html"]
    return out / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        running.set_script_timeout(60)
        yield running


def call(browser: Any, code: str, *arguments: Any) -> Any:
    """What a function of the page gives; an error of its is one here."""
    value, error = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        f"(async (...given) => {{ {code} }})(...arguments)"
        ".then((value) => done([value, null]), (error) => done([null, String(error)]));",
        *arguments,
    )
    assert error is None, error
    return value


def open_page(browser: Any, address: str) -> None:
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(address)
    call(browser, "await started")
    assert browser.find_element("id", "status").text == "Ready."


FILE = "const file = new File([Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0))], given[1]);"


def encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def answer(browser: Any, path: Path) -> Any:
    code = f"{FILE} const {{ probabilities }} = await classify(file); return probabilities"
    return np.array(call(browser, code, encoded(path), path.name))


def expected(loaded: Loaded, path: Path) -> Any:
    from caffe2torch.lower.to_onnx import complete, to_onnx

    model = complete(to_onnx(graph_of(loaded.model, loaded.transform.crop)))
    pixels = loaded.transform(read_image(path), None)
    (value,) = Session(model.SerializeToString()).run({"data": pixels[None]}).values()
    return value.reshape(-1)


@pytest.fixture(scope="module")
def server(page: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(page.parent))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("served", [False, True], ids=["from the disk", "from a server"])
def test_the_samples_are_classified(browser: Any, page: Path, server: str, served: bool) -> None:
    address = server if served else page.as_uri()
    open_page(browser, address)
    sample = find_sample()
    loaded, names = load_model(sample.caffemodel), read_class_names(sample.classes)
    buttons = browser.find_elements("css selector", "#examples button")
    assert [button.get_attribute("title") for button in buttons] == list(sample.labels)
    for button, (name, label) in zip(buttons, sample.labels.items(), strict=True):
        right = expected(loaded, sample.images / name)
        np.testing.assert_allclose(
            answer(browser, sample.images / name), right, rtol=0, atol=PROBABILITY
        )
        button.click()
        call(browser, "await queue")
        shown = browser.find_elements("css selector", "#classes tr")
        order = np.argsort(-right)[:5]
        assert [row.find_elements("tag name", "td")[0].text for row in shown] == [
            names[n] for n in order
        ]
        assert order[0] == label
        share = float(shown[0].find_element("class name", "share").text.removesuffix(" %"))
        assert share == pytest.approx(100 * right[label], abs=100 * PROBABILITY)
        assert browser.find_element("id", "status").text.startswith(f"{name}: the net took ")
    assert browser.get_log("browser") == []
    asked = [url for url in requests(browser) if not url.startswith(("data:", "blob:"))]
    assert asked == [address]


def test_the_net_is_asked_for_nothing_else(browser: Any, page: Path) -> None:
    """The policy forbids what the test above would find."""
    open_page(browser, page.as_uri())
    code = "try { await fetch('http://127.0.0.1:9/x'); return 'sent' } catch (e) { return e.name }"
    assert call(browser, code) == "TypeError"
    assert any("Content Security Policy" in e["message"] for e in browser.get_log("browser"))


SIZES = ((54, 54, 256, 256), (375, 500, 256, 256), (31, 200, 54, 54), (1, 1, 54, 54),
         (700, 3, 55, 41), (97, 89, 54, 53), (256, 300, 256, 256))  # fmt: skip
"""Height and width, before and after."""


def test_pixels_are_resized_as_by_opencv(browser: Any, page: Path) -> None:
    open_page(browser, page.as_uri())
    rng, wrong = np.random.default_rng(0), []
    for height, width, new_height, new_width in SIZES:
        image = rng.integers(0, 256, (height, width, 4), np.uint8)
        code = (
            "const bytes = Uint8Array.from(atob(given[0]), (c) => c.charCodeAt(0));"
            "return [...resize(bytes, ...given.slice(1, 5))]"
        )
        data = base64.b64encode(image.tobytes()).decode()
        made = call(browser, code, data, width, height, new_width, new_height)
        right = cv2.resize(image[:, :, :3], (new_width, new_height), interpolation=cv2.INTER_CUBIC)
        difference = np.abs(np.array(made).reshape(right.shape) - right.astype(int))
        off = OFF if min(height, width) > 3 else ROUNDED_WEIGHTS  # Intel's library takes no less.
        if difference.max() > LEVELS or (difference > 0).mean() > off:
            wrong.append((height, width, difference.max(), (difference > 0).mean()))
    assert wrong == []


def write_kinds(folder: Path) -> list[Path]:
    """Image files of every kind that browsers and OpenCV read."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 90, 3), np.uint8)
    smooth = cv2.resize(rng.integers(0, 256, (6, 9, 3), np.uint8), (90, 60))
    for name, image in {
        "colour.png": noise, "grey.png": noise[:, :, 0], "deep.png": noise.astype(np.uint16) * 257,
        "colour.bmp": noise, "colour.jpg": smooth, "grey.jpg": smooth[:, :, 0],
        "lossy.webp": smooth, "colour.gif": noise // 64 * 64, "exact.png": noise[:54, :54],
    }.items():  # fmt: skip
        assert cv2.imwrite(str(folder / name), image), name
    jpeg = (folder / "colour.jpg").read_bytes()
    # An EXIF record of one entry: orientation 6, to be turned by 90 degrees.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (folder / "turned.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    return sorted(folder.iterdir())


def test_files_of_all_kinds_are_read(browser: Any, page: Path, tmp_path: Path) -> None:
    open_page(browser, page.as_uri())
    code = f"{FILE} const image = await decode(file);"
    code += "return [image.width, image.height, [...image.data]]"
    wrong = []
    for path in write_kinds(tmp_path):
        width, height, data = call(browser, code, encoded(path), path.name)
        pixels = np.array(data).reshape(height, width, 4)[:, :, 2::-1]
        right = read_image(path).astype(int)
        off = np.abs(pixels - right).max() if pixels.shape == right.shape else right.shape
        if off != 0:
            wrong.append((path.name, pixels.shape, off))
    assert wrong == []


@pytest.mark.parametrize(
    "made",
    [
        Preprocessing(crop_size=48, resize=54, mean=(104.0, 117.0, 123.0)),
        Preprocessing(crop_size=48, mean=(1.0,), scale=0.017, channel_order="RGB"),
        Preprocessing(crop_size=31, mean=(9.0, 8.0, 7.0), std=(57.0, 58.0, 59.0), scale=0.5),
        Preprocessing(crop_size=48, resize=48, protocol="shorter-side", channel_order="RGB"),
        Preprocessing(crop_size=32, resize=37, protocol="random-resized-crop"),
    ],
    ids=["plain", "RGB", "std", "shorter side", "random"],
)
def test_the_input_is_made_as_the_record_says(
    browser: Any, page: Path, tmp_path: Path, made: Preprocessing
) -> None:
    loaded = load_model(find_sample().caffemodel)
    record = record_of(dataclasses.replace(loaded, transform=Transform(made)))
    open_page(browser, page.as_uri())
    call(browser, "Object.assign(record, given[0])", record)
    code = f"{FILE} return [...input(cut(await decode(file)))]"
    for shape in ((60, 90, 3), (91, 40, 3)):
        image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        cv2.imwrite(str(tmp_path / "image.png"), image)
        values = call(browser, code, encoded(tmp_path / "image.png"), "image.png")
        right = Transform(made)(image, None)
        level = LEVELS * made.scale / min(made.std or (1.0,))
        difference = np.abs(np.array(values).reshape(right.shape) - right)
        assert difference.max() <= level * (1 + PROBABILITY)
        assert (difference > level / 100).mean() <= OFF


def test_what_is_no_image_or_transparent_is_said(browser: Any, page: Path) -> None:
    open_page(browser, page.as_uri())
    status = browser.find_element("id", "status")
    call(browser, "await open(new File(['text'], 'a<b>.png'))")
    assert status.text.startswith("a<b>.png is not an image that this browser can read")
    assert not browser.find_element("id", "result").is_displayed()
    clear = np.full((60, 60, 4), 200, np.uint8)
    clear[:30, :, 3] = 0
    data = base64.b64encode(cv2.imencode(".png", clear)[1].tobytes()).decode()
    call(browser, f"{FILE} await open(file)", data, "clear.png")
    assert status.text.startswith("clear.png: the net took")
    assert "transparent" in browser.find_element("id", "note").text


def test_a_net_of_ones_own_is_exported(browser: Any, runtime: Path, tmp_path: Path) -> None:
    sample = find_sample()
    names = [f"class {n}" for n in range(10)]
    names[3] = "</script><script>document.title = 'run'</script>"
    (tmp_path / "names.txt").write_text("\n".join(names))
    command = ["export", "--weights", str(sample.caffemodel), "--runtime", str(runtime)]
    result = CliRunner().invoke(
        squeezenet, [*command, "--synset-words", f"{tmp_path}/names.txt", f"{tmp_path}/own.html"]
    )
    assert result.exit_code == 0, result.output
    open_page(browser, (tmp_path / "own.html").as_uri())
    assert call(browser, "return record.names") == names
    assert browser.title == "SqueezeNet v1.1"


def test_what_cannot_be_written_leaves_no_page(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = ["--weights", str(find_sample().caffemodel)]
    page = str(tmp_path / "page.html")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    (tmp_path / "cut.tgz").write_bytes(runtime.read_bytes()[:-1])
    monkeypatch.setenv("CAFFE2TORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CAFFE2TORCH_SQUEEZENET_URL_BASE", "http://127.0.0.1:9")
    given = ["--runtime", str(runtime)]
    for command, arguments, message in (
        (squeezenet, ["export", *weights, page, "--runtime", f"{tmp_path}/no"], "cannot read"),
        (squeezenet, ["export", *weights, page, "--runtime", str(tmp_path)], "cannot read"),
        (squeezenet, ["export", *weights, page, "--runtime", f"{tmp_path}/cut.tgz"], "truncated"),
        (squeezenet, ["export", *weights, page, *given, "--synset-words", f"{tmp_path}/names.txt"],
         "2 class names, but the net has 10"),
        (squeezenet, ["export", *weights, f"{tmp_path}/x.onnx", *given], "are for an OUTPUT of"),
        (squeezenet, ["export", *weights, page], "--runtime onnxruntime-web-"),
        (main, ["demo", "--web", "--out", f"{tmp_path}/out"], "or fetch the file by hand from"),
        (main, ["demo", "--web", "--out", f"{tmp_path}/cut.tgz"], "no file can be written into"),
        (main, ["demo", *given], "--runtime is for --web"),
    ):  # fmt: skip
        result = CliRunner().invoke(command, arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert message in result.output
    left = {p.name for p in tmp_path.rglob("*") if not p.name.endswith(".lock")}
    assert left == {"names.txt", "cut.tgz", "cache", "out"}
