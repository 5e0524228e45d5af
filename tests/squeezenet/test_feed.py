"""What the device makes of a batch of bytes has the bits of the transform of single images."""

import numpy as np
import pytest
import torch

from caffe2torch.errors import NetError
from caffe2torch.images import ImageError
from caffe2torch.preprocessing import Preprocessing
from squeezenet.data import ImageDataset
from squeezenet.feed import Feed
from squeezenet.preprocess import Transform

CPU = torch.device("cpu")
MEAN_IMAGE = np.random.default_rng(9).random((3, 40, 40), np.float32) * 255


def photos(count):
    rng = np.random.default_rng(4)
    return [rng.integers(0, 256, (*rng.integers(20, 90, 2), 3), np.uint8) for _ in range(count)]


class Photos:
    """A source of images whose labels are their numbers; None is a bad one."""

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def read(self, index, decode=None):
        if self.images[index] is None:
            raise ImageError("y")
        return self.images[index], index

    def where(self, index):
        return "x"


def made(protocol="caffe", **changes):
    fields = {"crop_size": 33, "resize": 40, "mean": (104.0, 117.0, 123.0), "mirror": True}
    return Preprocessing(protocol=protocol, **(fields | changes))


VARIANTS = {
    "mean of values": Transform(made()),
    "mean image": Transform(made(), MEAN_IMAGE),
    "mean image, scaled": Transform(made(scale=1 / 256), MEAN_IMAGE),
    "no mean": Transform(made(mean=())),
    "one mean": Transform(made(mean=(7.0,), scale=0.017)),
    "RGB, normalised": Transform(made("shorter-side", channel_order="RGB", std=(58.4, 57.1, 57.4))),
    "RGB, mean image": Transform(made(channel_order="RGB"), MEAN_IMAGE),
    "not mirrored": Transform(made(mirror=False)),
    "rotated": Transform(made("random-resized-crop"), rotation=20),
    "colours changed": Transform(made("random-resized-crop"), jitter=0.4),
    "all, mean image": Transform(made(), MEAN_IMAGE, rotation=10, jitter=0.3),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_bits_are_those_of_single_images(name, training, channels_last):
    transform = VARIANTS[name]

    def rng(n):
        return np.random.default_rng((3, 0, n)) if training else None

    images = photos(9)
    dataset = ImageDataset(Photos(images), transform, seed=3 if training else None)
    batch = dataset.batch([(0, n) for n in range(9)])
    changes_colours = training and transform.jitter
    assert batch.images.dtype == (torch.float32 if changes_colours else torch.uint8)
    before = batch.images.clone()
    (moved,) = Feed(transform, CPU, channels_last=channels_last)([batch])
    expected = np.stack([transform(image, rng(n)) for n, image in enumerate(images)])
    assert moved.images.dtype == torch.float32
    np.testing.assert_array_equal(moved.images.numpy(), expected)
    order = torch.channels_last if channels_last else torch.contiguous_format
    assert moved.images.is_contiguous(memory_format=order)
    assert torch.equal(batch.images, before)
    assert moved.labels.tolist() == list(range(9))


def test_half_of_the_training_images_are_mirrored():
    flags = [
        VARIANTS["mean image"].cut(image, np.random.default_rng((1, n))).mirrored
        for n, image in enumerate(photos(200))
    ]
    assert 70 < sum(flags) < 130


def test_a_batch_without_images_goes_through():
    transform = VARIANTS["mean image"]
    batch = ImageDataset(Photos([None]), transform, seed=None).batch([(0, 0)])
    (moved,) = Feed(transform, CPU)([batch])
    assert len(moved.labels) == 0
    assert moved.bad == [("x", "y")]


def test_batches_are_asked_for_and_moved_beside_the_step(monkeypatch):
    """Asking for one may decode it, which waits for the stream: not for the step before."""
    feed = Feed(VARIANTS["no mean"], CPU)
    beside = False

    def stream(make, tensors):
        nonlocal beside
        beside = True
        batch = make()
        beside = False
        if batch is not None:
            assert {id(batch.images), id(batch.labels)} <= {id(tensor) for tensor in tensors(batch)}
        return batch

    def batches():
        for _ in range(2):
            assert beside
            yield dataset.batch([(0, 0)])
        assert beside

    dataset = ImageDataset(Photos(photos(1)), VARIANTS["no mean"], seed=None)
    monkeypatch.setattr(feed, "stream", stream)
    assert [batch.images.dtype for batch in feed(batches())] == [torch.float32] * 2


@pytest.mark.parametrize("training", [True, False])
def test_a_cut_that_the_mean_image_does_not_have_is_refused(training):
    """An image that is wider than the mean image, as where the aspect ratio is kept."""
    transform = Transform(made("shorter-side"), MEAN_IMAGE)
    wide = np.zeros((40, 160, 3), np.uint8)
    with pytest.raises(NetError, match=r"mean image is 40 x 40, and a cut of 33 begins at column"):
        [transform.cut(wide, np.random.default_rng(n) if training else None) for n in range(50)]
