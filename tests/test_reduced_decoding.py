"""JPEGs decoded at a half or less of their size, where the resizing makes them smaller anyway."""

import cv2
import numpy as np
import pytest

from caffe2torch.images import ImageError, decode_image, read_image
from caffe2torch.preprocessing import Preprocessing
from squeezenet.data import ImageDataset
from squeezenet.preprocess import Transform
from squeezenet.sources import open_split


def jpeg(height, width, progressive=False, exif=b""):
    """A smooth picture as a JPEG file, with an APP1 segment before the frame."""
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows * 200 // height, columns * 200 // width, rows * 0 + 90], 2)
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    data = cv2.imencode(".jpg", picture.astype(np.uint8), options)[1].tobytes()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif if exif else b""
    return np.frombuffer(data[:2] + segment + data[2:], np.uint8)


@pytest.mark.parametrize(
    ("least", "size"),
    [
        (0, (403, 600)),
        (202, (403, 600)),
        (201, (202, 300)),
        (101, (202, 300)),
        (50, (51, 75)),
        (9, (51, 75)),
    ],
)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": b"\xff\xc0" * 99}])
def test_a_large_jpeg_is_decoded_smaller_but_not_too_small(least, size, options):
    data = jpeg(403, 600, **options)
    pixels = decode_image(data, "x.jpg", least=least)
    assert pixels.shape[:2] == size
    whole = cv2.imdecode(data, cv2.IMREAD_COLOR)
    expected = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA)
    # Of a smooth picture. At the edges the decoder also averages what pads the last blocks.
    assert np.abs(pixels.astype(int) - expected).mean() < 1


def test_what_is_no_whole_jpeg_is_not_decoded_smaller():
    whole = np.full((90, 80, 3), 7, np.uint8)
    assert decode_image(cv2.imencode(".png", whole)[1], "x.png", least=9).shape == (90, 80, 3)
    grey = decode_image(cv2.imencode(".jpg", whole)[1], "x.jpg", 1, least=9)
    assert grey.shape == (90, 80)
    for data in (jpeg(90, 80)[:20], jpeg(90, 80)[:2], np.array([0xFF, 0xD8, 0xFF], np.uint8)):
        with pytest.raises(ImageError):
            decode_image(data, "x.jpg", least=9)


def test_a_data_set_decodes_smaller_only_if_asked(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.jpg").write_bytes(jpeg(403, 600).tobytes())
    source = open_split(tmp_path, None, "val").source
    quarter, half = (101, 150), (202, 300)
    for protocol, side, size in (
        ("caffe", 100, quarter),
        ("shorter-side", 100, quarter),
        ("random-resized-crop", 147, half),
    ):
        made = Preprocessing(resize=100, crop_size=90, protocol=protocol)
        transform = Transform(made, area=(0.5, 1.0), decode="reduced")
        assert transform.least == side
        assert source.read(0, transform.decoder)[0].shape[:2] == size
        got, exact = (
            ImageDataset(source, one, seed=None)[(0, 0)][0].pixels
            for one in (transform, Transform(made))
        )
        np.testing.assert_array_equal(
            exact, Transform(made).cut(read_image(tmp_path / "a" / "0.jpg"), None).pixels
        )
        assert got.shape == exact.shape
        assert 0 < np.abs(got.astype(int) - exact).mean() < 1
