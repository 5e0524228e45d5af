from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import genuine

import squeezenet
from caffe2torch.errors import Caffe2TorchError
from caffe2torch.images import ImageError
from squeezenet import Preprocessing
from squeezenet.preprocess import preprocess


@pytest.fixture
def bgr() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)


@pytest.fixture
def png(tmp_path: Path, bgr: np.ndarray) -> Path:
    path = tmp_path / "bild ä.png"
    path.write_bytes(cv2.imencode(".png", bgr)[1].tobytes())
    return path


class FakePIL:
    def __init__(self, rgb: np.ndarray, mode: str = "RGB") -> None:
        self.rgb, self.mode = rgb, mode

    def convert(self, mode: str) -> np.ndarray:
        assert mode == "RGB"
        return self.rgb


def test_is_the_documented_arithmetic(bgr: np.ndarray) -> None:
    resized = cv2.resize(bgr, (256, 256), interpolation=cv2.INTER_CUBIC)
    crop = resized[14:241, 14:241].astype(np.float32)
    expected = (crop - np.float32([104, 117, 123])).transpose(2, 0, 1)
    actual = preprocess(bgr)
    assert actual.shape == (3, 227, 227)
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    np.testing.assert_array_equal(actual, expected)


def test_colours_stay_in_order() -> None:
    blue = np.zeros((5, 7, 3), np.uint8)
    blue[:, :, 0] = 255
    planes = preprocess(blue)
    assert [float(p[0, 0]) for p in planes] == [255 - 104, -117, -123]
    planes = preprocess(blue, channel_order="RGB")
    assert [float(p[0, 0]) for p in planes] == [-104, -117, 255 - 123]


def test_path_array_and_pil_agree(png: Path, bgr: np.ndarray) -> None:
    expected = preprocess(bgr)
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    for image in (png, str(png), FakePIL(rgb)):
        np.testing.assert_array_equal(preprocess(image), expected)
    np.testing.assert_array_equal(preprocess(rgb, channel_order="RGB"), expected)


def test_grey_becomes_three_equal_channels(tmp_path: Path, bgr: np.ndarray) -> None:
    grey = bgr[:, :, 0].copy()
    expected = preprocess(np.stack([grey] * 3, axis=2))
    path = tmp_path / "grey.png"
    path.write_bytes(cv2.imencode(".png", grey)[1].tobytes())
    for image in (grey, grey[:, :, None], path):
        np.testing.assert_array_equal(preprocess(image), expected)


@pytest.mark.parametrize("order", ["BGR", "RGB"])
def test_alpha_is_dropped(tmp_path: Path, bgr: np.ndarray, order: str) -> None:
    alpha = np.full((50, 70, 1), 9, np.uint8)
    with_alpha = np.concatenate([bgr, alpha], axis=2)
    expected = preprocess(bgr, channel_order=order)
    np.testing.assert_array_equal(preprocess(with_alpha, channel_order=order), expected)
    path = tmp_path / "alpha.png"
    path.write_bytes(cv2.imencode(".png", with_alpha)[1].tobytes())
    np.testing.assert_array_equal(preprocess(path), preprocess(bgr))


def test_other_preprocessing(bgr: np.ndarray) -> None:
    other = Preprocessing(resize=40, crop_size=33, mean=(1.0, 2.0, 3.0), scale=0.5)
    resized = cv2.resize(bgr, (40, 40), interpolation=cv2.INTER_CUBIC)
    expected = (resized[3:36, 3:36] - np.float32([1, 2, 3])).transpose(2, 0, 1) / 2
    np.testing.assert_array_equal(preprocess(bgr, preprocessing=other), expected)


def test_caller_keeps_its_array(bgr: np.ndarray) -> None:
    before = bgr.copy()
    preprocess(bgr)
    np.testing.assert_array_equal(bgr, before)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<html>not an image</html>"])
def test_file_that_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.jpg is not an image that OpenCV can decode"):
        preprocess(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"cannot read the image .*nowhere\.jpg: No such file"):
        preprocess(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="cannot read the image"):
        preprocess(tmp_path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 7, 3), np.float32), "must be uint8"),
        (np.zeros((5, 7, 2), np.uint8), r"must have the shape .* not \(5, 7, 2\)"),
        (np.zeros((0, 7, 3), np.uint8), "must have the shape"),
        (np.zeros((2, 5, 7, 3), np.uint8), "must have the shape"),
        (FakePIL(np.zeros((5, 7, 3), np.uint8), "I;16"), "mode 'I;16' has more than 8 bits"),
        (7, "not a int"),
    ],
)
def test_unusable_image(image: object, message: str) -> None:
    with pytest.raises(Caffe2TorchError, match=message):
        preprocess(image)  # type: ignore[arg-type]


def test_unknown_channel_order(bgr: np.ndarray) -> None:
    with pytest.raises(ImageError, match="'BGR' or 'RGB'"):
        preprocess(bgr, channel_order="GBR")


def test_genuine_images_decode() -> None:
    paths = sorted(genuine("DATA", "imagenet_sample", "images").iterdir())[:3]
    assert len(paths) == 3
    for path in paths:
        pixels = cv2.imread(str(path))
        np.testing.assert_array_equal(preprocess(path), preprocess(pixels))


def test_package_exports_the_function_and_stays_light() -> None:
    assert squeezenet.preprocess is preprocess
    code = (
        "import sys, squeezenet, squeezenet.preprocess\n"
        "assert callable(squeezenet.preprocess)\n"
        "heavy = {'torch', 'cv2', 'onnx', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
