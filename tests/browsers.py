"""A headless Chromium, driven by selenium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """A browser with an empty ``profile``; the test is skipped where there is none."""
    programs = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
    program = next(filter(None, map(shutil.which, programs)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    with webdriver.Chrome(options=options, service=service) as running:
        yield running


def requests(browser: Any) -> list[str]:
    """The addresses that the page asked for since it was opened."""
    sent = "Network.requestWillBeSent"
    messages = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == sent]
