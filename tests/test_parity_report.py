"""What a parity check reports: the page, the JSON by its schema, JUnit XML."""

from __future__ import annotations

import base64
import json
import re
import shlex
import shutil
import sys
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from parity_samples import HOSTILE, SQUEEZENET, write_hostile_net, write_images, wrong_reference

import caffe2torch
from caffe2torch.cli import main
from caffe2torch.compare import SAMPLE, LogitSample
from caffe2torch.errors import Caffe2TorchError, ParityError
from caffe2torch.io.npz import read_npz, write_npz
from caffe2torch.parity.feed import feed
from caffe2torch.parity.inputs import batch_size
from caffe2torch.parity.junit import write_junit
from caffe2torch.parity.report import render_report
from caffe2torch.parity.result import ParityReport
from caffe2torch.parity.top5 import LISTED

NET = (SQUEEZENET / "net.caffemodel", SQUEEZENET / "net.prototxt")
SCHEMA = json.loads((files("caffe2torch.parity") / "report.schema.json").read_text())


class Page(HTMLParser):
    """The tags with their attributes, and the text, of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def as_json(report: ParityReport) -> dict[str, Any]:
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    jsonschema.validate(content, SCHEMA)
    return dict(content)


@pytest.fixture(scope="module")
def of_images(tmp_path_factory: pytest.TempPathFactory) -> ParityReport:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "images", 3)
    (folder / "words.txt").write_text("".join(f"n{i:08} name <{i}>\n" for i in range(20)))
    return caffe2torch.check_parity(
        *NET, images=folder / "images", synset_words=folder / "words.txt"
    )


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> ParityReport:
    folder = tmp_path_factory.mktemp("failing")
    inputs, reference = wrong_reference(folder, "fire4/concat")
    return caffe2torch.check_parity(
        *NET, inputs=inputs, reference=reference, bisect=folder / "found"
    )


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_json_has_it_all(of_images: ParityReport) -> None:
    content = as_json(of_images)
    assert content["passed"] is True
    assert content["inputs"]["kind"] == "images"
    assert {f["role"] for f in content["files"]} == {"model", "prototxt", "class names"}
    assert {"caffe2torch", "torch", "onnxruntime", "numpy"} <= content["versions"].keys()
    rows = content["top5"]["images"]
    assert [(row["name"], row["label"], row["label_name"]) for row in rows] == [
        (f"{i:03}.png", i, f"name <{i}>") for i in range(3)
    ]
    assert rows[0]["engines"].keys() >= {"torch", "onnxruntime"}
    best = rows[0]["engines"]["torch"]
    assert [b["logit"] for b in best] == sorted((b["logit"] for b in best), reverse=True)
    assert best[0]["name"] == f"name <{best[0]['class']}>"
    assert content["scores"]["torch"]["images"] == 3
    assert content["comparisons"][0]["scatter"]["total"] == 3 * 20


def test_json_of_a_failure(failing: ParityReport) -> None:
    content = as_json(failing)
    assert content["passed"] is False
    pair = next(c for c in content["comparisons"] if c["engine"] == "reference")
    assert pair["first_divergence"] == "fire4/concat"
    assert [b["blob"] for b in pair["blobs"] if not b["passed"]] == ["fire4/concat"]
    assert content["bisection"]["layers"] == [{"name": "fire4/concat", "type": "Concat"}]
    assert content["bisection"]["reproduced"] is True


def test_the_page_is_self_contained(of_images: ParityReport) -> None:
    page = Page(render_report(of_images))
    links = [v for _, a in page.tags for k, v in a.items() if k in ("src", "href")]
    assert links
    assert all(link is not None and link.startswith("data:") for link in links)
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert "url(" not in page.text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in (
        page.tags
    )
    jpegs = [link for link in links if link and link.startswith("data:image/jpeg")]
    assert len(jpegs) == 3
    assert all(len(base64.b64decode(j.split(",")[1])) < 12_000 for j in jpegs)
    assert "PASS: every engine computes the same" in page.text
    assert "name <0>" in page.text
    for record in of_images.files:
        assert record.sha256 in page.text


def test_the_page_of_a_failure(failing: ParityReport) -> None:
    page = Page(render_report(failing))
    assert "FAIL: engines differ by more than the tolerance" in page.text
    assert "fire4/concat (Concat)" in page.text
    svg = plots(render_report(failing))[0]
    assert "first divergence: fire4/concat" in svg
    assert 'id="tolerance"' in svg


def test_the_same_check_gives_the_same_page(of_images: ParityReport) -> None:
    assert render_report(of_images) == render_report(of_images)


def plots(page: str) -> list[str]:
    found = re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page)
    return [base64.b64decode(data).decode() for data in found]


def test_hostile_names_are_harmless(tmp_path: Path) -> None:
    report = caffe2torch.check_parity(None, write_hostile_net(tmp_path))
    page = render_report(report)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for svg in plots(page):
        assert "<script" not in svg
        ElementTree.fromstring(svg)
    assert as_json(report)["net"]["blobs"][0]["blob"] == HOSTILE
    write_junit(report, tmp_path / "junit.xml")
    names = [c.get("name") for c in ElementTree.parse(tmp_path / "junit.xml").iter("testcase")]
    assert HOSTILE.replace("\x01", "\\u0001") in names


def test_junit_counts_and_figures(failing: ParityReport, tmp_path: Path) -> None:
    write_junit(failing, tmp_path / "junit.xml")
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    suites = {suite.get("name"): suite for suite in root}
    assert suites.keys() == {f"{c.engine} / {c.baseline}" for c in failing.comparisons}
    suite = suites["reference / torch"]
    comparison = next(c for c in failing.comparisons if c.engine == "reference")
    assert suite.get("tests") == str(len(comparison.blobs)) == str(len(list(suite)))
    (failed,) = (case for case in suite if len(case))
    assert (failed.get("name"), suite.get("failures")) == ("fire4/concat", "1")
    difference = next(d for d in comparison.blobs if d.blob == "fire4/concat")
    assert f"max abs error {difference.max_abs:.6g}, allowed" in str(failed[0].get("message"))
    assert suites["onnxruntime / torch"].get("failures") == "0"


def test_an_engine_that_was_skipped_is_reported(tmp_path: Path) -> None:
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(
        'input: "x" input_shape { dim: 2 dim: 3 } '
        'layer { name: "y" type: "TanH" bottom: "x" top: "y" }'
    )
    report = caffe2torch.check_parity(None, prototxt)
    assert report.skipped == {"opencv": "OpenCV needs a .caffemodel"}
    assert "OpenCV needs a .caffemodel" in Page(render_report(report)).text
    write_junit(report, tmp_path / "junit.xml")
    skipped = ElementTree.parse(tmp_path / "junit.xml").find("testsuite[@name='opencv']")
    assert skipped is not None
    assert skipped.find("testcase/skipped") is not None


def test_values_that_json_cannot_hold(tmp_path: Path) -> None:
    inputs, reference = wrong_reference(tmp_path, "pool10")
    with np.load(reference) as file:
        record = {key: file[key] for key in file.files}
    record["pool10"][0, 3], record["pool10"][0, 5] = np.nan, np.inf
    np.savez(reference, **record)
    report = caffe2torch.check_parity(*NET, inputs=inputs, reference=reference)
    pair = next(c for c in as_json(report)["comparisons"] if c["engine"] == "reference")
    assert next(b for b in pair["blobs"] if b["blob"] == "pool10")["max_abs"] == "inf"
    render_report(report)


def test_many_images_stay_bounded() -> None:
    rng = np.random.default_rng(1)
    count = 3 * LISTED
    data = rng.standard_normal((count, 3, 43, 43)).astype(np.float32)
    report = caffe2torch.check_parity(*NET, inputs={"data": data})
    content = as_json(report)
    assert len(content["top5"]["images"]) == LISTED
    assert content["top5"]["omitted"] == count - LISTED
    assert len(content["comparisons"][0]["scatter"]["pairs"]) <= SAMPLE
    assert content["comparisons"][0]["scatter"]["total"] == 20 * count
    assert f"{count - LISTED} more are not listed" in Page(render_report(report)).text


def test_the_sample_of_logits_is_even() -> None:
    values = np.arange(3 * SAMPLE, dtype=np.float32)
    at_once, in_parts = LogitSample(), LogitSample()
    at_once.add(values, -values)
    for part in np.split(values, [7, 1000, 1001, 4000]):
        in_parts.add(part, -part)
    for sample in (at_once, in_parts):
        assert sample.seen == 3 * SAMPLE
        np.testing.assert_array_equal(sample.pairs[:, 0], values[::4])
        np.testing.assert_array_equal(sample.pairs[:, 1], -values[::4])


def test_the_batch_of_images_fits_memory() -> None:
    graph = caffe2torch.read(*NET)
    assert batch_size(graph, 1000) == 20
    large = caffe2torch.read(*NET, input_shapes={"data": (2, 3, 1500, 1500)})
    assert 1 <= batch_size(large, 1000) < 20


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    words = ["parity", *map(str, (NET[0], "--prototxt", NET[1])), "--report", str(tmp_path / "r")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert library in result.output
    assert 'pip install "caffe2torch[report]"' in result.output
    assert not (tmp_path / "r").exists()


def test_the_command_line_writes_all_three(tmp_path: Path) -> None:
    words = ["parity", str(NET[0]), "--prototxt", str(NET[1]), "--random", "1"]
    names = {"--report": "r.html", "--json": "r.json", "--junit": "r.xml"}
    for option, name in names.items():
        words += [option, str(tmp_path / name)]
    result = CliRunner().invoke(main, [*words, "--engine", "torch", "--engine", "onnxruntime"])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(content, SCHEMA)
    assert [(c["baseline"], c["engine"]) for c in content["comparisons"]] == [
        ("torch", "onnxruntime")
    ]
    assert all((tmp_path / name).is_file() for name in names.values())


def test_a_bare_prototxt_is_a_model(tmp_path: Path) -> None:
    path = write_hostile_net(tmp_path)
    result = CliRunner().invoke(main, ["parity", str(path)])
    assert result.exit_code == 0, result.output
    assert "opencv was skipped: OpenCV needs a .caffemodel" in result.output


def test_given_inputs_have_to_fit(tmp_path: Path) -> None:
    graph = caffe2torch.read(*NET)
    data = np.zeros((2, 3, 43, 43))
    with open(tmp_path / "x.npz", "wb") as file:
        write_npz(file, {"data": data, "file": np.zeros(3)})
    assert read_npz(tmp_path / "x.npz", "inputs").keys() == {"data", "file"}
    with pytest.raises(ParityError, match="'file' is unknown"):
        feed(graph, tmp_path / "x.npz")
    with pytest.raises(ParityError, match="'data' is missing"):
        feed(graph, {})
    for wrong in (data[:, :2], data[0], data[:0]):
        with pytest.raises(ParityError, match=r"declares \(1, 3, 43, 43\)"):
            feed(graph, {"data": wrong})
    (batch,) = feed(graph, {"data": data})
    assert batch.inputs["data"].dtype == np.float32
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(Caffe2TorchError, match=r"bad\.npz.*zip"):
        feed(graph, tmp_path / "bad.npz")
    with pytest.raises(ParityError, match="not both"):
        feed(graph, {"data": data}, images=tmp_path)


def test_an_npz_is_the_same_each_time(tmp_path: Path) -> None:
    arrays = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.float32(3)}
    for name in ("1.npz", "2.npz"):
        with open(tmp_path / name, "wb") as file:
            write_npz(file, arrays)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    with np.load(tmp_path / "1.npz", allow_pickle=False) as loaded:
        assert set(loaded.files) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)


def test_the_workflow_of_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = (Path(__file__).parents[1] / "docs" / "parity.md").read_text()
    step = docs.split("mkdir parity &&")[1].split("- uses:")[0]
    words = shlex.split(step)
    assert words[:2] == ["caffe2torch", "parity"]
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "model" / "samples", 2)
    shutil.copy(NET[0], "model/net.caffemodel")
    shutil.copy(NET[1], "model/deploy.prototxt")
    (tmp_path / "parity").mkdir()
    result = CliRunner().invoke(main, words[1:])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in Path("parity").iterdir()) == [
        "junit.xml",
        "report.html",
        "report.json",
    ]
