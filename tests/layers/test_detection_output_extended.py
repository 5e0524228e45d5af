from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from detection_oracle import Settings, detect, random_inputs
from harness import check_layer, layer_error

PLAIN = Settings(num_classes=2, code_type="CENTER_SIZE", confidence_threshold=0.1)
HEIGHT, WIDTH, EACH = 2, 3, 4
SHAPES = [(1, HEIGHT, WIDTH, 4 * EACH), (1, 2 * HEIGHT * WIDTH * EACH), (1, 2, 4 * 24)]


def layer(settings: Settings) -> str:
    return settings.prototxt().replace('"DetectionOutput"', '"DetectionOutputExtended"')


def inputs_of(seed: int, images: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    loc, conf, prior = random_inputs(rng, PLAIN, images=images, priors=HEIGHT * WIDTH * EACH)
    return [loc.reshape(images, HEIGHT, WIDTH, 4 * EACH), conf, prior]


def expected(settings: Settings, inputs: list[np.ndarray]) -> np.ndarray:
    """The rows of DetectionOutput, and where in the map each one's score is from."""
    loc, conf, prior = (array.astype(np.float64) for array in inputs)
    rows = detect(settings, loc.reshape(len(loc), -1), conf, prior)[0, 0]
    scores = conf.reshape(len(conf), HEIGHT, WIDTH, EACH, 2)[..., 1]
    assert len(np.unique(scores)) == scores.size
    ends: list[list[Any]] = []
    for row in rows:
        if row[1] < 0:
            ends.append([-1, -1, -1])
            continue
        (y,), (x,), (number,) = np.nonzero(scores[int(row[0])] == row[2])
        ends.append([number, x, y])
    return np.concatenate([rows, ends], 1)[None, None]


@pytest.mark.parametrize(
    "change",
    [{}, {"top_k": 5}, {"keep_top_k": 7}, {"confidence_threshold": 2.0}, {"code_type": "CORNER"}],
    ids=str,
)
def test_rows_say_their_cell_and_prior(change: dict[str, object]) -> None:
    settings = replace(PLAIN, **change)
    few, more = inputs_of(7, 2), inputs_of(8, 3)
    check_layer(
        layer(settings),
        few,
        [expected(settings, few)],
        batch_inputs=more,
        batch_expected=[expected(settings, more)],
    )


def test_the_background_is_label_0_whatever_is_written() -> None:
    inputs = inputs_of(7, 1)
    text = layer(replace(PLAIN, background_label_id=-1))
    check_layer(text, inputs, [expected(PLAIN, inputs)])


@pytest.mark.parametrize(
    ("change", "shapes", "message"),
    [
        ({"num_classes": 3}, SHAPES, "num_classes: must be 2, not 3"),
        ({"share_location": False}, SHAPES, "share_location: must be true"),
        ({}, [(1, 96), *SHAPES[1:]], "offsets (1, 96) are not (N, H, W, 4A)"),
        ({}, [SHAPES[0], (1, 24), SHAPES[2]], "scores (1, 24) are not (1, 48)"),
        ({}, [*SHAPES[:2], (1, 2, 4 * 23)], "to match the priors"),
    ],
)
def test_what_is_refused(change: dict[str, object], shapes: list[tuple[int, ...]], message: str):
    assert message in str(layer_error(layer(replace(PLAIN, **change)), shapes))
