"""The parity report in a real browser: its verdict, no error, no request, nothing to scroll.

Needs Chromium and its driver (Debian: ``apt-get install chromium chromium-driver``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium, requests
from parity_samples import SQUEEZENET, write_hostile_net, write_images, wrong_reference

import caffe2torch
from caffe2torch.parity.report import write_report

pytestmark = pytest.mark.slow

NET = (SQUEEZENET / "net.caffemodel", SQUEEZENET / "net.prototxt")
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    write_images(folder / "images", 3)
    inputs, reference = wrong_reference(folder, "fire4/concat")
    reports = {
        "PASS": caffe2torch.check_parity(*NET, images=folder / "images"),
        "FAIL": caffe2torch.check_parity(
            *NET, inputs=inputs, reference=reference, bisect=folder / "found"
        ),
        "hostile": caffe2torch.check_parity(None, write_hostile_net(folder)),
    }
    for name, report in reports.items():
        write_report(report, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


def open_page(browser: Any, path: Path, device: str) -> None:
    width, height = WIDTHS[device]
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": device == "phone",
        },
    )
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())


@pytest.mark.parametrize("device", WIDTHS)
@pytest.mark.parametrize("name", ["PASS", "FAIL", "hostile"])
def test_the_report_opens(browser: Any, pages: dict[str, Path], name: str, device: str) -> None:
    open_page(browser, pages[name], device)
    verdict = browser.find_element("id", "verdict").text
    assert verdict.startswith("FAIL: " if name == "FAIL" else "PASS: ")
    assert browser.get_log("browser") == []
    asked = requests(browser)
    assert pages[name].as_uri() in asked
    assert [url for url in asked if not url.startswith(("data:", pages[name].as_uri()))] == []

    width, scrolled = browser.execute_script(
        "for (const d of document.querySelectorAll('details')) d.open = true;"
        "return [innerWidth, document.documentElement.scrollWidth];"
    )
    assert width == WIDTHS[device][0]
    assert scrolled <= width
    sizes = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth]);"
    )
    assert sizes
    assert all(complete and natural > 0 for complete, natural in sizes)


def test_an_error_would_be_seen(browser: Any, tmp_path: Path) -> None:
    """The checks above can fail: a page with a script and a picture from elsewhere."""
    page = tmp_path / "bad.html"
    page.write_text(
        "<meta name='viewport' content='width=device-width'><p style='width: 600px'>x</p>"
        "<img src='http://127.0.0.1:9/x.png'><script>nothing()</script>"
    )
    open_page(browser, page, "phone")
    assert any("nothing is not defined" in e["message"] for e in browser.get_log("browser"))
    assert "http://127.0.0.1:9/x.png" in requests(browser)
    assert browser.execute_script("return document.documentElement.scrollWidth") > 390
