"""Make docs/parity_report.png: the report of a small net on generated images.

    python tools/report_screenshot.py [--keep DIR]

Needs the ``report`` extra and Chromium (Debian: ``apt-get install chromium``). Only the parity
check decides what the page shows; the images are drawn here from a fixed seed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import cv2
import numpy as np

import caffe2torch
from caffe2torch.parity.report import write_report

ROOT = Path(__file__).parents[1]
NET = Path("tests/conformance/cases/net_squeezenet_v1_1")
PICTURE = ROOT / "docs" / "parity_report.png"
IMAGES = 3
SIDE = 160
WIDTH, HEIGHT = 1180, 1650
CHROMIUM = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()


def draw_images(folder: Path) -> None:
    """Draw IMAGES pictures: shapes of random colours on a gradient."""
    rng = np.random.default_rng(7)
    for index in range(IMAGES):
        top, bottom = rng.uniform(40, 230, (2, 3))
        ramp = np.linspace(0, 1, SIDE)[:, None, None]
        image = np.repeat((1 - ramp) * top + ramp * bottom, SIDE, axis=1).astype(np.uint8)
        for _ in range(5):
            centre = tuple(int(v) for v in rng.integers(20, SIDE - 20, 2))
            colour = tuple(int(v) for v in rng.integers(0, 256, 3))
            if rng.random() < 0.5:
                cv2.circle(image, centre, int(rng.integers(10, 40)), colour, -1, cv2.LINE_AA)
            else:
                cv2.ellipse(image, centre, (45, 18), int(rng.integers(180)), 0, 360, colour, -1)
        cv2.imwrite(str(folder / f"shapes_{index + 1}.png"), image)


def photograph(page: Path, picture: Path) -> None:
    """Open ``page`` in headless Chromium and save what it shows."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium is not installed.")
    with tempfile.TemporaryDirectory() as profile:
        shot = Path(profile) / "shot.png"
        subprocess.run(
            [
                browser,
                *CHROMIUM,
                f"--user-data-dir={profile}/profile",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={shot}",
                page.resolve().as_uri(),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        cv2.imwrite(str(picture), cv2.imread(str(shot)), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def main() -> None:
    """Draw, check, write, photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, help="Write images and page into this folder.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        images = folder / "images"
        images.mkdir(parents=True, exist_ok=True)
        draw_images(images)
        report = caffe2torch.check_parity(
            NET / "net.caffemodel", NET / "net.prototxt", images=images
        )
        write_report(report, folder / "report.html")
        photograph(folder / "report.html", PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
