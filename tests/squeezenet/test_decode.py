"""JPEGs that are decoded where the model computes, beside what OpenCV makes of them."""

import io
import sys
import tarfile
from dataclasses import replace
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from caffe2torch.data.lmdb import LmdbSource
from caffe2torch.errors import NetError, ReadError
from caffe2torch.images import ImageError, decode_image
from caffe2torch.io.schema import message_class
from caffe2torch.preprocessing import Preprocessing
from caffe2torch.training.distributed import ALONE
from squeezenet.config import TrainConfig
from squeezenet.data import ImageDataset, load_batches, train_batches
from squeezenet.feed import Feed
from squeezenet.jpeg import Jpeg, plain_jpeg
from squeezenet.parts import open_data
from squeezenet.preprocess import Transform
from squeezenet.shards import ShardSource
from squeezenet.sources import FileSource, open_split

ROUNDING = 1
"""OpenCV resizes in integers and rounds once more than floats do."""
CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*TorchVision are deprecated:DeprecationWarning")


def by_opencv(files, mode, device):
    """What torchvision.io.decode_jpeg gives: (3, H, W), red first; all images or an error."""
    assert (mode, device) == ("RGB", CPU)
    decoded = [cv2.imdecode(file.numpy(), cv2.IMREAD_COLOR) for file in files]
    if any(image is None for image in decoded):
        raise RuntimeError("Error while decoding JPEG images")
    return [torch.from_numpy(image[:, :, ::-1].transpose(2, 0, 1).copy()) for image in decoded]


@pytest.fixture
def stand_in(monkeypatch):
    """torchvision with a decoder of OpenCV's, whether it is installed or not."""
    module: Any = ModuleType("torchvision.io")
    module.decode_jpeg = by_opencv
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.io", module)
    return module


@pytest.fixture(params=["stand-in", "torchvision"])
def decoder(request):
    if request.param == "stand-in":
        request.getfixturevalue("stand_in")
        return
    module = pytest.importorskip("torchvision.io", reason="needs torchvision")
    if not module.image._has_image_ops():
        pytest.skip("this torchvision has no decoder")


def picture(seed, height=90, width=120):
    """Smooth, with noise: what JPEG is made for."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 220, (5, 7, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return cv2.add(smooth, rng.integers(0, 9, smooth.shape).astype(np.uint8))


def jpeg(seed=0, segment=b"", sampling=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420, grey=False, **kinds):
    """A file, with a segment behind its first marker."""
    image = picture(seed, **kinds.pop("size", {}))
    if grey:
        image = image[:, :, 1]
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    for name, value in kinds.items():
        options += [getattr(cv2, f"IMWRITE_JPEG_{name.upper()}"), value]
    data = cv2.imencode(".jpg", image, options)[1].tobytes()
    return data[:2] + segment + data[2:]


def segment(marker, content):
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def exif(orientation, order="little"):
    entry = [(0x0112, 2), (3, 2), (1, 4), (orientation, 2), (0, 2)]
    head = [(42, 2), (8, 4), (2, 2), (0x010F, 2), (2, 2), (0, 4), (0, 4)]
    numbers = b"".join(value.to_bytes(size, order) for value, size in head + entry)
    return segment(0xE1, b"Exif\0\0" + (b"II" if order == "little" else b"MM") + numbers)


def changed(data, place, *values):
    """The file with other bytes in the frame's segment, counted behind its length."""
    start = data.index(b"\xff\xc0") + 4 + place
    return data[:start] + bytes(values) + data[start + len(values) :]


PLAIN = {
    "4:2:0": jpeg(),
    "4:4:4": jpeg(sampling=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "4:2:2": jpeg(sampling=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
    "4:1:1": jpeg(sampling=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
    "4:4:0": jpeg(sampling=cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
    "grey": jpeg(grey=True),
    "restart markers": jpeg(rst_interval=3),
    "upright": jpeg(segment=exif(1)),
    "upright, big-endian": jpeg(segment=exif(1, "big")),
    "Exif without anything": jpeg(segment=segment(0xE1, b"Exif\0\0MM\0*")),
    "Adobe's YCbCr": jpeg(segment=segment(0xEE, b"Adobe\0\x64\0\0\0\0\1")),
    "another APP1": jpeg(segment=segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0")),
    "large": jpeg(size={"height": 403, "width": 600}),
}
OTHERS = {
    "progressive": jpeg(progressive=1),
    "on its side": jpeg(segment=exif(6)),
    "on its head, big-endian": jpeg(segment=exif(3, "big")),
    "something behind it": jpeg() + b"\0",
    "cut short": jpeg()[:-700],
    "no frame": jpeg()[:20] + b"\xff\xd9",
    "Adobe's RGB": jpeg(segment=segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")),
    "components R, G and B": changed(changed(changed(jpeg(), 6, 82), 9, 71), 12, 66),
    "12 bits": changed(jpeg(), 0, 12),
    "no height": changed(jpeg(), 1, 0, 0),
    "too large": changed(jpeg(), 1, 255, 255, 255, 255),
    "an unusual sampling": changed(jpeg(), 7, 0x14),
    "four components": changed(jpeg(), 5, 4),
    "arithmetic": jpeg().replace(b"\xff\xc0", b"\xff\xc9"),
    "PNG": cv2.imencode(".png", picture(3))[1].tobytes(),
    "nothing": b"",
}


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_which_files_are_left_to_the_device(name):
    data = np.frombuffer((PLAIN | OTHERS)[name], np.uint8)
    try:
        expected = decode_image(data, "x")
    except ImageError:
        with pytest.raises(ImageError):
            plain_jpeg(data, "x")
        assert name in OTHERS
        return
    found = plain_jpeg(data, "x")
    if name in PLAIN:
        assert isinstance(found, Jpeg)
        assert found.data.tobytes() == PLAIN[name]
        assert found.shape == expected.shape[:2]
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.fixture
def folder(tmp_path):
    """A class for plain files, one for others, and in it one that nothing decodes."""
    for label, files in (("a", PLAIN), ("b", {**OTHERS, "broken": b"\xff\xd8no image\xff\xd9"})):
        (tmp_path / label).mkdir()
        for number, data in enumerate(files.values()):
            (tmp_path / label / f"{number:02}.jpg").write_bytes(data)
    return tmp_path


def transforms(protocol, **settings):
    """The exact one and that which decodes on the device."""
    made = Preprocessing(crop_size=40, resize=48, mean=(9.0,), mirror=True, protocol=protocol)
    exact = Transform(made, area=(0.2, 1.0), **settings)
    return exact, replace(exact, decode="torchvision")


@pytest.mark.parametrize(
    ("protocol", "workers"), [("caffe", 0), ("shorter-side", 0), ("random-resized-crop", 2)]
)
def test_batches_differ_by_a_rounding(folder, decoder, protocol, workers):
    source = open_split(folder, None, "train").source
    expected, found = (
        [
            next(Feed(t, CPU)([batch]))
            for _, batch in zip(
                range(4),
                load_batches(
                    ImageDataset(source, t, seed=3),
                    train_batches(len(source), 11, seed=3),
                    workers=workers,
                ),
                strict=False,
            )
        ]
        for t in transforms(protocol)
    )
    assert sum(len(batch.bad) for batch in expected) > 2
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.places, other.places)
        assert one.bad == other.bad
        assert (one.images - other.images).abs().max() <= ROUNDING
    # Some images of a batch are decoded by the workers.
    assert {0, 1} == {label for batch in found for label in batch.labels.tolist()}


def test_what_the_device_does_not_decode_is_decoded_exactly(folder, stand_in):
    """torchvision fails for a whole list, which says nothing about the other files in it."""
    source = open_split(folder, None, "train").source
    assert isinstance(source, FileSource)
    refused = np.fromfile(source.samples[2].path, np.uint8)
    asked = []

    def decode_jpeg(files, mode, device):
        asked.append(len(files))
        if any(np.array_equal(file.numpy(), refused) for file in files):
            raise RuntimeError("Error while decoding JPEG images: 8")
        return by_opencv(files, mode, device)

    stand_in.decode_jpeg = decode_jpeg
    expected, found = (
        next(
            load_batches(
                ImageDataset(source, t, seed=None), [[(0, n) for n in range(5)]], workers=0
            )
        )
        for t in transforms("caffe")
    )
    assert asked == [1, 5, 1, 1, 1, 1, 1]  # The first one shows that it can.
    assert torch.equal(found.images[2], expected.images[2])
    assert (found.images.int() - expected.images.int()).abs().max() <= ROUNDING
    assert found.bad == []


def test_an_image_that_nothing_decodes_is_set_apart(tmp_path, stand_in):
    """Its header is whole, so that only the device finds out."""
    (tmp_path / "list.txt").write_text("0.jpg 3\n1.jpg 4\n2.jpg 5\n")
    for n in (0, 2):
        (tmp_path / f"{n}.jpg").write_bytes(jpeg(n))
    data = jpeg(1)
    tables = data.index(b"\xff\xdb"), data.index(b"\xff\xc0")
    (tmp_path / "1.jpg").write_bytes(data[: tables[0]] + data[tables[1] :])
    source = open_split(tmp_path, "list.txt", "train").source
    dataset = ImageDataset(source, transforms("caffe")[1], seed=None)
    assert isinstance(dataset[0, 1][0].pixels, Jpeg)
    (batch,) = load_batches(dataset, [[(0, 0), (0, 1), (0, 2)]], workers=0)
    assert batch.labels.tolist() == [3, 5]
    assert batch.indices.tolist() == [0, 2]
    assert batch.images.shape == (2, 40, 40, 3)
    assert batch.places.shape == (2, 3)
    ((where, reason),) = batch.bad
    assert where == f"{tmp_path / '1.jpg'} ({tmp_path / 'list.txt'}:2)"
    assert reason.startswith(f"{where} is not an image that OpenCV can decode")


def test_a_batch_without_images_goes_through(tmp_path, stand_in):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.jpg").write_bytes(b"no image")
    source = open_split(tmp_path, None, "train").source
    dataset = ImageDataset(source, transforms("caffe")[1], seed=None)
    (batch,) = load_batches(dataset, [[(0, 0)]], workers=0)
    (fed,) = Feed(dataset.transform, CPU)([batch])
    assert len(fed.labels) == 0
    assert len(fed.bad) == 1


def datum(data, **fields):
    return message_class("Datum")(data=data, label=4, **fields).SerializeToString()


@pytest.mark.parametrize("kind", ["LMDB", "tar"])
def test_other_sources_leave_their_files_to_the_device(tmp_path, stand_in, kind):
    source: LmdbSource | ShardSource
    if kind == "LMDB":
        lmdb = pytest.importorskip("lmdb")
        pixels = picture(2).transpose(2, 0, 1)
        raw = datum(pixels.tobytes(), channels=3, height=90, width=120)
        with (
            lmdb.open(str(tmp_path / "db"), map_size=1 << 24) as database,
            database.begin(write=True) as t,
        ):
            t.put(b"0", datum(jpeg(1), encoded=True))
            t.put(b"1", raw)
        source = LmdbSource(tmp_path / "db")
    else:
        with tarfile.open(tmp_path / "0.tar", "w") as tar:
            for name, data in (
                ("0.jpg", jpeg(1)),
                ("0.cls", b"4"),
                ("1.jpg", OTHERS["PNG"]),
                ("1.cls", b"4"),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        source = ShardSource([str(tmp_path / "0.tar")])
    expected, found = (ImageDataset(source, t, seed=1) for t in transforms("shorter-side"))
    kinds = [type(found[0, n][0].pixels) for n in range(2)]
    assert kinds == [Jpeg, np.ndarray]
    one, other = (next(load_batches(d, [[(0, 0), (0, 1)]], workers=0)) for d in (expected, found))
    assert (one.images.int() - other.images.int()).abs().max() <= ROUNDING
    assert other.labels.tolist() == [4, 4]


def files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.jpg").write_bytes(jpeg())
    return ImageDataset(
        open_split(tmp_path, None, "train").source, transforms("caffe")[1], seed=None
    )


def test_training_asks_for_torchvision_before_it_reads_anything(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    config = TrainConfig(data=str(tmp_path / "gone"), decode="torchvision")
    with pytest.raises(ReadError, match="needs torchvision"):
        open_data(config, ALONE)


def test_torchvision_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.io", None)
    with pytest.raises(ReadError, match=r'needs torchvision.*pip install "caffe2torch\[decode\]"'):
        load_batches(files(tmp_path), [[(0, 0)]], workers=0)


@pytest.mark.parametrize("kind", [RuntimeError, AttributeError])
def test_a_torchvision_that_cannot_decode_is_told_from_damaged_files(tmp_path, stand_in, kind):
    def decode_jpeg(files, mode, device):
        raise kind("Couldn't load the image extension.\nMore.")

    stand_in.decode_jpeg = decode_jpeg
    with pytest.raises(ReadError, match=r"on cpu \(Couldn't load the image extension\.\): install"):
        load_batches(files(tmp_path), [[(0, 0)]], workers=0)


@pytest.mark.parametrize("setting", ["rotation", "jitter"])
def test_what_the_workers_do_to_pixels_is_refused(setting):
    with pytest.raises(NetError, match="leaves no pixels for --rotation and --jitter"):
        transforms("caffe", **{setting: 0.1})
