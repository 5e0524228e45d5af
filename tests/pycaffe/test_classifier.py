"""Classifier and Detector: images and windows through a small net."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from support import OF_LAYER, assert_close

from caffe2torch.pycaffe import Classifier, Detector, Net, io

NET = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param {
  num_output: 5 weight_filler { type: "gaussian" std: 0.1 } } }
"""


@pytest.fixture
def model(tmp_path) -> str:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return str(path)


def images(count: int = 3, height: int = 11, width: int = 10):
    return list(np.random.default_rng(0).random((count, height, width, 3)).astype(np.float32))


def scores(net: Net, inputs):
    weights, bias = (blob.data for blob in net.params["fc"])
    return inputs.reshape(len(inputs), -1) @ weights.T + bias


def test_predict_takes_the_mean_of_ten_crops_or_the_centre(model) -> None:
    net = Classifier(model, None, image_dims=(11, 10), raw_scale=2.0, mean=np.array([1.0, 2, 3]))
    assert isinstance(net, Net)
    assert (net.crop_dims.tolist(), net.image_dims) == ([8, 8], (11, 10))

    def fed(crops):
        return (crops * 2 - [1, 2, 3]).transpose(0, 3, 1, 2)

    ten = scores(net, fed(io.oversample(images(), (8, 8)))).reshape(3, 10, 5).mean(1)
    assert_close(net.predict(images()), ten, OF_LAYER)
    centre = scores(net, fed(np.stack(images())[:, 1:9, 1:9]))
    assert_close(net.predict(images(), oversample=False), centre, OF_LAYER)


def test_image_dims_may_be_an_array_and_default_to_the_input(model) -> None:
    assert Classifier(model, None, image_dims=np.array([9, 9])).predict(images()).shape == (3, 5)
    assert Classifier(model, None).image_dims.tolist() == [8, 8]
    with pytest.raises(IndexError):
        Classifier(model, None).predict([])
    with pytest.raises(ValueError, match="8 x 8 does not fit an image of 7 x 9"):
        Classifier(model, None, image_dims=(7, 9)).predict(images(), oversample=False)


def test_windows_are_cut_warped_and_classified(model, tmp_path) -> None:
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, (images(1, 30, 40)[0] * 255).astype(np.uint8))
    net = Detector(model, None, raw_scale=3.0)
    windows = [[0, 0, 8, 8], [3.0, 4.0, 11.0, 12.0], np.array([2, 1, 20, 30])]
    found = net.detect_windows((path, [window]) for window in windows)
    image = io.load_image(path)
    crops = [image[:8, :8], image[3:11, 4:12], io.resize_image(image[2:20, 1:30], (8, 8))]
    expected = scores(net, np.stack(crops).transpose(0, 3, 1, 2) * 3)
    assert [set(entry) for entry in found] == [{"window", "prediction", "filename"}] * 3
    assert_close(np.stack([entry["prediction"] for entry in found]), expected, OF_LAYER)
    with pytest.raises(IndexError):
        net.detect_windows([])


def test_a_window_with_context_has_a_border_and_the_mean_outside(model) -> None:
    mean = np.array([30.0, 20.0, 10.0])
    options = {"raw_scale": 100.0, "channel_swap": (2, 1, 0), "context_pad": 2}
    net = Detector(model, None, mean=mean, **options)
    np.testing.assert_allclose(net.crop_mean[0, 0], [0.1, 0.2, 0.3])
    image = images(1, 40, 40)[0]
    # 8 pixels with a border of 2: the window's 10 rows (both ends count) grow to twice as many.
    crop = net.crop(image, [10, 10, 19, 19])
    assert_close(crop, io.resize_image(image[5:25, 5:25], (8, 8)), OF_LAYER)
    at_corner = net.crop(image, [0, 0, 9, 9])
    assert at_corner.shape == (8, 8, 3)
    np.testing.assert_allclose(
        at_corner[:2], np.broadcast_to([0.1, 0.2, 0.3], (2, 8, 3)), atol=1e-6
    )
    np.testing.assert_allclose(
        at_corner[:, :2], np.broadcast_to([0.1, 0.2, 0.3], (8, 2, 3)), atol=1e-6
    )
    assert_close(at_corner[2:, 2:], io.resize_image(image[:15, :15], (6, 6)), OF_LAYER)
    without = Detector(model, None, context_pad=2)
    np.testing.assert_array_equal(without.crop(image, [0, 0, 9, 9])[:2], np.zeros((2, 8, 3)))
    with pytest.raises(ValueError, match="lies outside of the image"):
        net.crop(image, [90, 90, 99, 99])


def test_a_border_that_ends_at_half_a_pixel_is_rounded_as_in_caffe(tmp_path) -> None:
    # 14 / 12 * 27 is one rounding above 31.5, which 27 * 14 / 12 is.
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "in" type: "Input" top: "x" '
        "input_param { shape { dim: 1 dim: 3 dim: 14 dim: 14 } } }"
    )
    net = Detector(str(path), None, context_pad=1)
    image = images(1, 90, 90)[0]
    expected = io.resize_image(image[25:88, 25:88], (14, 14))
    np.testing.assert_array_equal(net.crop(image, [30, 30, 83, 83]), expected)


def test_selective_search_says_what_to_do_instead(model) -> None:
    with pytest.raises(ModuleNotFoundError, match="give them to detect_windows"):
        Detector(model, None).detect_selective_search(["x.png"])
