"""A contact sheet: thumbnails in a grid, each with its likeliest class below."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ArtefactError
from caffe2torch.images import read_image
from caffe2torch.io.atomic import atomic_write
from squeezenet.infer import Answer

TILE = 200
LABEL = 40
GAP = 8
COLUMNS = 6
FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_sheet(path: Path, answers: Sequence[Answer]) -> None:
    """Draw all answers into one image file, of the format that its suffix names."""
    columns = min(COLUMNS, len(answers))
    rows = math.ceil(len(answers) / columns)
    height = rows * (TILE + LABEL + GAP) + GAP
    sheet = np.full((height, columns * (TILE + GAP) + GAP, 3), 255, np.uint8)
    for place, answer in enumerate(answers):
        row, column = divmod(place, columns)
        top, left = GAP + row * (TILE + LABEL + GAP), GAP + column * (TILE + GAP)
        sheet[top : top + TILE, left : left + TILE] = _thumbnail(read_image(answer.image))
        _label(sheet, answer, top + TILE, left)
    try:
        done, data = cv2.imencode(path.suffix or ".png", sheet)
        if not done:
            raise ArtefactError(f"cannot encode {path}: give the sheet the suffix .png or .jpg")
    except cv2.error as error:
        raise ArtefactError(
            f"{path} has a suffix that no image format has: give the sheet .png or .jpg"
        ) from error
    with atomic_write(path) as file:
        file.write(data.tobytes())


def _thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    tile: npt.NDArray[np.uint8] = cv2.resize(square, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return tile


def _label(sheet: npt.NDArray[np.uint8], answer: Answer, top: int, left: int) -> None:
    guess = answer.guesses[0]
    # OpenCV's fonts have ASCII only; what they lack is drawn as "?".
    name = guess.name.encode("ascii", "replace").decode()
    for line, text in enumerate((_fit(name), f"{guess.probability:.1%}")):
        place = (left, top + 15 + 18 * line)
        cv2.putText(sheet, text, place, FONT, 0.45, (0, 0, 0), 1, cv2.LINE_AA)


def _fit(text: str) -> str:
    """The text, cut so that it stays within a tile."""
    while cv2.getTextSize(text, FONT, 0.45, 1)[0][0] > TILE:
        text = text[:-4] + "..." if text.endswith("...") else text[:-3] + "..."
    return text
