"""What comes of cuts has the bits of (pixel - mean) * scale, computed for each image on its own."""

import itertools

import numpy as np
import pytest
import torch
from data_nets import datum, source, write_lmdb

from caffe2torch.cuts import CPU, Cuts, CutsToInput
from caffe2torch.data.source import Reading
from caffe2torch.io.schema import message_class

pytest.importorskip("lmdb")
COUNT, HEIGHT, WIDTH = 6, 9, 12
MEANS = {
    "": lambda channels: np.zeros((1, 1, 1), np.float32),
    "mean_value: 104.3": lambda channels: np.full((1, 1, 1), 104.3, np.float32),
    "mean_values": lambda channels: np.arange(channels, dtype=np.float32)[:, None, None] * 60.1,
    "mean_file": lambda channels: np.random.default_rng(1).random((channels, HEIGHT, WIDTH)) * 250,
}


def expected(images, mean, scale, crop, mirror, phase):
    """Of the items 0, 1, ... in the stream of a layer of the name "data", with the seed 3."""
    made = []
    for position, image in enumerate(images):
        random = Reading(phase, seed=3).random("data", position)
        mirrored = mirror and random.integers(2) == 1
        place = np.s_[:, :, :]
        if crop:
            spare = HEIGHT - crop, WIDTH - crop
            top, left = (
                (random.integers(side + 1) for side in spare)
                if phase == "TRAIN"
                else (side // 2 for side in spare)
            )
            place = np.s_[:, top : top + crop, left : left + crop]
        numbers = image[place].astype(np.float32)
        numbers -= mean[place].astype(np.float32) if mean.shape[1:] != (1, 1) else mean
        numbers *= np.float32(scale)
        made.append(numbers[:, :, :: -1 if mirrored else 1])
    return np.stack(made)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["bytes", "floats", "both"])
def test_every_setting_has_the_bits_of_single_images(tmp_path, channels, kind):
    rng = np.random.default_rng(8)
    images = [rng.integers(0, 256, (channels, HEIGHT, WIDTH), np.uint8) for _ in range(COUNT)]
    if kind != "bytes":
        some = slice(None, None, 1 if kind == "floats" else 2)
        images[some] = [image.astype(np.float32) * np.float32(1.3) for image in images[some]]
    path = write_lmdb(tmp_path / "db", [datum(image, label=n) for n, image in enumerate(images)])
    wrong = []
    for (text, mean_of), scale, crop, mirror, phase in itertools.product(
        MEANS.items(), (1, 0.017), (0, 5), (False, True), ("TRAIN", "TEST")
    ):
        mean = mean_of(channels)
        if text == "mean_file":
            blob = message_class("BlobProto")(channels=channels, height=HEIGHT, width=WIDTH, num=1)
            blob.data.extend(mean.ravel())
            (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
            text = f'mean_file: "{tmp_path}/mean.binaryproto"'
        if text == "mean_values":
            text = " ".join(f"mean_value: {value}" for value in mean.ravel())
        opened = source(
            f"transform_param {{ {text} scale: {scale} crop_size: {crop} mirror: "
            f'{str(mirror).lower()} }} data_param {{ source: "{path}" backend: LMDB '
            f"batch_size: {COUNT} }}",
            phase,
            seed=3,
        )
        cuts, labels = opened.raw(0)
        assert isinstance(cuts, Cuts)
        assert cuts.pixels.dtype == (torch.uint8 if kind == "bytes" else torch.float32)
        to_input = opened.to_input(CPU)
        made = expected(images, mean, scale, crop, mirror, phase)
        for of in (CutsToInput.one_by_one, CutsToInput.at_once):
            if not np.array_equal(of(to_input, cuts), made):
                wrong.append((text, scale, crop, mirror, phase, of.__name__))
        np.testing.assert_array_equal(opened.batch(0)[0], made)
        assert labels.tolist() == list(range(COUNT))
    assert not wrong
