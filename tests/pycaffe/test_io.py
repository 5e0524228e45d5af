"""Images and arrays as pycaffe's io treats them; resizes are scikit-image's and scipy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from caffe2torch.pycaffe import io
from caffe2torch.pycaffe.io import Transformer
from caffe2torch.pycaffe.proto import caffe_pb2

ROUNDING = 1e-6
"""Of values of about 1 in float32."""


def noise(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def transformer(shape=(2, 3, 5, 7)) -> Transformer:
    return Transformer({"data": shape})


def test_preprocess_goes_through_all_steps_in_caffes_order() -> None:
    t = transformer()
    t.set_transpose("data", (2, 0, 1))
    t.set_channel_swap("data", (2, 1, 0))
    t.set_raw_scale("data", 255.0)
    t.set_mean("data", np.array([104.0, 117.0, 123.0]))
    t.set_input_scale("data", 0.5)
    image = noise(5, 7, 3)
    expected = (image[:, :, ::-1] * 255 - [104, 117, 123]).transpose(2, 0, 1) * 0.5
    given = t.preprocess("data", image)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(t.deprocess("data", given[np.newaxis]), image, atol=1e-5)


def test_preprocess_changes_a_float32_image_of_the_right_size_as_caffe_does() -> None:
    t = transformer((1, 5, 7, 3))
    t.set_raw_scale("data", 2.0)
    image = noise(7, 3, 5)
    before = image.copy()
    t.preprocess("data", image)
    np.testing.assert_array_equal(image, before * 2)
    t.set_channel_swap("data", (0, 1, 2, 3, 4))
    t.preprocess("data", image.astype(np.float64))


def test_preprocess_resizes_other_sizes() -> None:
    t = transformer()
    t.set_transpose("data", (2, 0, 1))
    given = t.preprocess("data", noise(9, 4, 3))
    np.testing.assert_array_equal(given, io.resize_image(noise(9, 4, 3), (5, 7)).transpose(2, 0, 1))


def test_deprocess_keeps_the_axis_of_one_channel_where_it_is_needed() -> None:
    t = transformer((1, 1, 5, 7))
    assert t.deprocess("data", noise(1, 1, 5, 7)).shape == (5, 7)
    t.set_transpose("data", (2, 0, 1))
    t.set_mean("data", np.array([0.5]))
    image = noise(5, 7, 1)
    given = t.preprocess("data", image.copy())
    np.testing.assert_allclose(t.deprocess("data", given), image, atol=ROUNDING)


def test_a_mean_image_of_another_size_is_resized() -> None:
    t = transformer()
    mean = noise(3, 4, 9) * 200
    t.set_mean("data", mean)
    resized = io.resize_image(mean.transpose(1, 2, 0), (5, 7)).transpose(2, 0, 1)
    np.testing.assert_allclose(t.mean["data"], resized, rtol=1e-5)
    t.set_mean("data", np.full((3, 4, 9), 7.0))
    np.testing.assert_array_equal(t.mean["data"], np.full((3, 5, 7), 7.0))
    grey = transformer((1, 1, 5, 7))
    grey.set_mean("data", noise(4, 9))
    assert grey.mean["data"].shape == (1, 5, 7)


REFUSED: dict[str, tuple[type[Exception], Callable[[], Any], str]] = {
    "an input that is not": (
        Exception,
        lambda: transformer().preprocess("x", noise(5, 7, 3)),
        "'x'",
    ),
    "axes": (Exception, lambda: transformer().set_transpose("data", (1, 0)), "3 axes"),
    "channels": (Exception, lambda: transformer().set_channel_swap("data", (1, 0)), "3 channels"),
    "values of a mean": (ValueError, lambda: transformer().set_mean("data", noise(4)), "4 values"),
    "one value": (ValueError, lambda: transformer().set_mean("data", np.array(1.0)), r"shape \(\)"),
    "a flat mean": (ValueError, lambda: transformer().set_mean("data", noise(5, 7)), r"\(5, 7\)"),
    "a list": (AttributeError, lambda: transformer().set_mean("data", [1, 2, 3]), "list"),
    "a number": (AttributeError, lambda: transformer().set_mean("data", 3.0), "float"),
    "no channels": (RuntimeError, lambda: transformer().preprocess("data", noise(9, 8)), "newaxis"),
    "a crop": (ValueError, lambda: io.oversample([noise(3, 3, 3)], (4, 4)), "4 x 4 does not fit"),
    "an order": (ValueError, lambda: io.resize_image(noise(3, 3, 3), (4, 4), 6), "0 to 5, not 6"),
    "a flat datum": (ValueError, lambda: io.array_to_datum(np.zeros((2, 2))), r"\(2, 2\)"),
    "a label": (TypeError, lambda: io.array_to_datum(np.zeros((1, 2, 2)), 1.5), "int|type"),
    "a list of numbers": (AttributeError, lambda: io.array_to_blobproto([1, 2]), "list"),
    "no diff": (
        ValueError,
        lambda: io.blobproto_to_array(io.array_to_blobproto(noise(2, 3)), True),
        "reshape",
    ),
    "no such name": (AttributeError, lambda: io.zork, "zork"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused(name: str) -> None:
    kind, call, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        call()


CUBIC_AREAS = (
    (0, 0.30398, 1.27042, 1.48211),
    (0.50165, 1.20906, 2.58017, 2.77535),
    (0.82772, 1.40045, 2.3669, 2.43036),
)
QUADRATIC_POINTS = (
    (0, 0.33333, 2.11111, 4),
    (0.5, 1.38889, 4.05556, 6.5),
    (1, 2.44444, 6, 9),
)
RAMP = np.array([[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]], np.float32)


def test_areas_fall_off_to_the_minimum_at_the_border() -> None:
    # skimage.transform.resize(..., order=1, mode="constant", anti_aliasing=False)
    grown = io.resize_image(RAMP[:, :, np.newaxis] + 5, (4, 3))[:, :, 0] - 5
    np.testing.assert_allclose(
        grown,
        [[0, 0.75, 1.5], [0.25, 1.25, 2.25], [0.75, 1.75, 2.75], [0.75, 1.5, 2.25]],
        atol=1e-6,
    )
    small = io.resize_image(RAMP[:, :, np.newaxis], (2, 2))[:, :, 0]
    np.testing.assert_allclose(small, [[0.25, 1.75], [1.25, 2.75]], atol=1e-6)


def test_points_keep_the_corners() -> None:
    # scipy.ndimage.zoom(..., order=1)
    grown = io.resize_image(np.stack([RAMP, RAMP * 2], 2), (3, 5))
    np.testing.assert_allclose(
        grown[:, :, 0], [[0, 0.5, 1, 1.5, 2], [0.5, 1, 1.5, 2, 2.5], [1, 1.5, 2, 2.5, 3]]
    )
    np.testing.assert_allclose(grown[:, :, 1], grown[:, :, 0] * 2)


def test_splines_are_scipys() -> None:
    # As above, with order=3 (areas: cut to the range of the image) and order=2.
    areas = io.resize_image(RAMP[:, :, np.newaxis], (3, 4), 3)[:, :, 0]
    np.testing.assert_allclose(areas, CUBIC_AREAS, atol=1e-5)
    points = io.resize_image(np.stack([RAMP**2, RAMP], 2), (3, 4), 2)[:, :, 0]
    np.testing.assert_allclose(points, QUADRATIC_POINTS, atol=1e-5)


def test_resize_takes_constants_nearest_pixels_and_float_sizes() -> None:
    same = io.resize_image(np.full((4, 5, 3), 9, np.uint8), (2, 7))
    assert same.dtype == np.float32
    np.testing.assert_array_equal(same, np.full((2, 7, 3), 9))
    nearest = io.resize_image(RAMP[:, :, np.newaxis], (4, 3), interp_order=0)[:, :, 0]
    np.testing.assert_array_equal(nearest, RAMP[[0, 0, 1, 1]])
    assert io.resize_image(noise(4, 5, 3), (2.0, 7.0)).shape == (2, 7, 3)


@pytest.fixture
def pixels(tmp_path, monkeypatch) -> Any:
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(1).integers(0, 256, (5, 7, 4), np.uint8)
    cv2.imwrite("colour.png", values[:, :, :3])
    cv2.imwrite("alpha.png", values)
    cv2.imwrite("grey.png", values[:, :, 0])
    cv2.imwrite("deep.png", values[:, :, 0].astype(np.uint16) * 257)
    return values / 255


def test_images_are_rgb_of_0_to_1(pixels) -> None:
    rgb = pixels[:, :, 2::-1]
    for name in ("colour.png", "alpha.png"):
        image = io.load_image(name)
        assert image.dtype == np.float32
        np.testing.assert_allclose(image, rgb, atol=ROUNDING)
    for name in ("grey.png", "deep.png"):
        np.testing.assert_allclose(io.load_image(name), pixels[:, :, [0, 0, 0]], atol=ROUNDING)
        np.testing.assert_allclose(io.load_image(name, False), pixels[:, :, :1], atol=ROUNDING)


def test_grey_of_colours_weighs_them_and_lies_on_white(pixels) -> None:
    rgb, alpha = pixels[:, :, 2::-1], pixels[:, :, 3:]
    weights = np.array([0.2125, 0.7154, 0.0721])
    grey = io.load_image("colour.png", color=False)
    np.testing.assert_allclose(grey[:, :, 0], rgb @ weights, atol=ROUNDING)
    grey = io.load_image("alpha.png", color=False)
    np.testing.assert_allclose(grey[:, :, 0], (rgb * alpha + 1 - alpha) @ weights, atol=ROUNDING)


def test_files_that_are_no_images_are_refused_by_name(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        io.load_image(tmp_path / "none.png")
    for content in (b"", b"text"):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(OSError, match=r"bad\.png is not an image"):
            io.load_image(str(tmp_path / "bad.png"))


def test_oversample_gives_corners_centre_and_mirrors() -> None:
    images = [noise(5, 8, 2, seed=seed) for seed in (1, 2)]
    crops = io.oversample(images, np.array([4, 5]))
    assert crops.shape == (20, 4, 5, 2)
    assert crops.dtype == np.float32
    places = [(0, 0), (0, 3), (1, 0), (1, 3), (0, 1)]
    for n, image in enumerate(images):
        for m, (y, x) in enumerate(places):
            crop = image[y : y + 4, x : x + 5]
            np.testing.assert_array_equal(crops[10 * n + m], crop)
            np.testing.assert_array_equal(crops[10 * n + 5 + m], crop[:, ::-1])


def test_datums_hold_bytes_or_floats() -> None:
    values = np.random.default_rng(2).integers(0, 256, (4, 3, 2), np.uint8).T
    datum = io.array_to_datum(values, 7)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 7)
    assert datum.data == values.tobytes()
    back = io.datum_to_array(datum)
    np.testing.assert_array_equal(back, values)
    back[0, 0, 0] = 1
    floats = io.array_to_datum(noise(2, 3, 4))
    assert not floats.HasField("label")
    back = io.datum_to_array(floats)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, noise(2, 3, 4))


def test_blobs_hold_data_and_diff() -> None:
    blob = io.array_to_blobproto(noise(2, 3), noise(2, 3, seed=1))
    assert list(blob.shape.dim) == [2, 3]
    np.testing.assert_array_equal(io.blobproto_to_array(blob), noise(2, 3))
    np.testing.assert_array_equal(io.blobproto_to_array(blob, True), noise(2, 3, seed=1))
    old = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3, data=range(6))
    assert io.blobproto_to_array(old).shape == (1, 2, 1, 3)
    arrays = [noise(2), noise(3, 4)]
    back = io.blobprotovector_str_to_arraylist(io.arraylist_to_blobprotovector_str(arrays))
    for array, found in zip(arrays, back, strict=True):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, array)


def test_integers_stay_integers_where_pixels_are_points() -> None:
    column = np.array([0, 10, 0, 255], np.uint8).reshape(4, 1, 1).repeat(2, axis=2)
    grown = io.resize_image(column, (10, 1))
    assert grown.dtype == np.float32
    # The positions are thirds: 10 / 3 and 20 / 3 are rounded.
    assert grown[:, 0, 0].tolist() == [0, 3, 7, 10, 7, 3, 0, 85, 170, 255]
    overshot = io.resize_image(column, (10, 1), interp_order=3)
    assert overshot.min() == 0
    assert overshot.max() == 255
    assert io.resize_image(column.astype(np.int32), (10, 1), interp_order=3).min() < 0
    floats = io.resize_image(column.astype(np.float32), (10, 1))
    assert floats[1, 0, 0] == pytest.approx(10 / 3)
