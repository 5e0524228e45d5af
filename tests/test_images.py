"""Images are found, named and made into input alike, whatever command is given them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe2torch
from caffe2torch.errors import NetError, ParityError, ReadError
from caffe2torch.images import (
    SUFFIXES,
    ImageError,
    find_images,
    read_class_names,
    read_image,
    read_list,
)
from caffe2torch.parity.inputs import image_batches, image_input, list_images
from caffe2torch.preprocessing import (
    PROTOCOLS,
    Preprocessing,
    Protocol,
    Size,
    register_protocol,
    to_input,
)
from squeezenet.config import TrainConfig
from squeezenet.infer import expand_inputs
from squeezenet.parts import make_transform
from squeezenet.preprocess import MEAN, PREPROCESSING, Transform, preprocess
from squeezenet.sources import open_split

NET = b"""
input: "data" input_shape { dim: 1 dim: 3 dim: 227 dim: 227 }
layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 3 } }
"""
WRITTEN = (
    ".bmp", ".dib", ".jpe", ".JPEG", ".Jpg", ".png", ".PNG", ".ppm", ".pnm", ".tif", ".tiff",
    ".webp", ".ras", ".sr", ".pam",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One picture of each format, two of them further down, and files that are none."""
    rng = np.random.default_rng(3)
    (tmp_path / "images" / "a b").mkdir(parents=True)
    for index, suffix in enumerate(WRITTEN):
        place = tmp_path / "images" / ("a b" if index < 2 else "")
        done, data = cv2.imencode(suffix, rng.integers(0, 256, (31, 47, 3), np.uint8))
        assert done
        (place / f"{index:02} x{suffix}").write_bytes(data.tobytes())
    (tmp_path / "images" / "notes.txt").write_text("no picture")
    (tmp_path / "images" / "light.hdr").write_text("#?RADIANCE")
    return tmp_path


def test_a_folder_holds_the_same_images_for_every_command(folder: Path) -> None:
    images = folder / "images"
    found = find_images(images)
    assert len(found) == len(WRITTEN)
    assert {path.suffix.lower() for path in found} <= SUFFIXES
    assert [sample.path for sample in list_images(images)] == found
    assert expand_inputs([str(images)]) == found
    (tree,) = [open_split(folder, None, "val").source]
    assert [tree.where(index) for index in range(len(tree))] == [str(path) for path in found]


def test_a_list_names_the_same_images_and_labels_for_every_command(folder: Path) -> None:
    names = [str(path.relative_to(folder / "images")) for path in find_images(folder / "images")]
    listing = folder / "images" / "val_list.txt"
    ends = [" ", "  ", "\t", " \t"]
    lines = [f"{name}{ends[n % 4]}{n}{' ' * (n % 2)}" for n, name in enumerate(names)]
    listing.write_text("\ufeff\n" + "\r\n\n".join(lines), encoding="utf-8")
    samples = list_images(folder / "images")
    assert [sample.label for sample in samples] == list(range(len(names)))
    for name in ("train", "val"):
        source = open_split(folder / "images", str(listing), name).source
        assert [source.where(n) for n in range(len(source))] == [
            f"{sample.path} ({sample.line})" for sample in samples
        ]
        assert [source.read(n)[1] for n in range(3)] == [0, 1, 2]
    # The folder above holds the pictures in its folder ``images``.
    assert [s.path for s in read_list(listing, folder)] == [s.path for s in samples]
    assert [s.label for s in list_images(folder, listing)] == [s.label for s in samples]


def test_eval_train_and_parity_feed_the_same_numbers(folder: Path) -> None:
    graph = caffe2torch.read(None, NET)
    (batch,) = image_batches(graph, folder / "images")
    transform = make_transform(TrainConfig(), "caffe")
    for given, path in zip(batch.inputs["data"], batch.paths, strict=True):
        made = image_input(path, (1, 3, 227, 227), None)
        np.testing.assert_array_equal(given, made)
        np.testing.assert_array_equal(preprocess(path), made)
        np.testing.assert_array_equal(transform(read_image(path), None), made)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("a.png", r"list\.txt:3: expected a path, a space and a label"),
        ("a.png x", r"list\.txt:3: expected"),
        ("# a comment", r"list\.txt:3: expected"),
        ("none.png 7", r"list\.txt:3: there is no image .*none\.png"),
    ],
)
def test_parity_names_the_line_of_a_list(folder: Path, line: str, cause: str) -> None:
    (folder / "list.txt").write_text(f"02 x.jpe 1\n\n{line}\n")
    with pytest.raises(ParityError, match=cause):
        list_images(folder, folder / "list.txt")


def test_parity_names_what_it_cannot_use(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match="is not a folder of images"):
        list_images(tmp_path / "none")
    with pytest.raises(ParityError, match=r"has no images \(\.avif, \.bmp"):
        list_images(tmp_path)
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(ParityError, match=r"a\.png is not an image .*use --random"):
        image_input(tmp_path / "a.png", (1, 3, 5, 7), None)
    with pytest.raises(ParityError, match="mean has 3 values, the net's input 1 channels"):
        image_input(tmp_path / "a.png", (1, 1, 5, 7), Preprocessing(mean=(1, 2, 3)))


def test_an_image_beyond_opencvs_limit_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "huge.ppm"
    path.write_bytes(b"P6\n1000000 1000000\n255\n" + bytes(99))
    with pytest.raises(ImageError, match=r"huge\.ppm is not an image that OpenCV can decode"):
        read_image(path)


def test_grey_nets_get_grey_images(tmp_path: Path) -> None:
    grey = np.random.default_rng(1).integers(0, 256, (11, 13), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), grey)
    given = image_input(tmp_path / "a.png", (1, 1, 5, 7), Preprocessing(mean=(2,), scale=0.5))
    size = round(7 * 256 / 227), round(5 * 256 / 227)
    whole = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
    top, left = (size[1] - 5) // 2, (size[0] - 7) // 2
    expected = (whole[top : top + 5, left : left + 7].astype(np.float32) - 2) / 2
    np.testing.assert_array_equal(given, expected[None])


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("n01440764 tench, Tinca tinca\r\nn01443537\nnine lives\n n0144 x \n\n \n")
    assert read_class_names(path) == ("tench, Tinca tinca", "n01443537", "nine lives", "n0144 x")
    path.write_text("a\n\nb\n")
    with pytest.raises(ReadError, match=r"names\.txt:2: the line is empty, so the class 1 has no"):
        read_class_names(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ReadError, match=r"the class names .*names\.txt: is not UTF-8 text"):
        read_class_names(path)
    with pytest.raises(ReadError, match=r"cannot read the class names .*none\.txt"):
        read_class_names(tmp_path / "none.txt")


RECORDS = [
    # Artefacts.
    ({"crop_size": 7, "mean": [1.0], "mean_file": None, "scale": 2.0, "mirror": True},
     Preprocessing(crop_size=7, mean=(1.0,), scale=2.0, mirror=True)),
    # Checkpoints of the first format.
    ({"protocol": "shorter-side", "resize": 40, "crop": 32, "mean": (1.0, 2.0, 3.0)},
     Preprocessing(crop_size=32, mean=(1.0, 2.0, 3.0), resize=40, protocol="shorter-side")),
    ({"protocol": "caffe", "resize": 40, "crop": 32, "mean": "m.npy", "scale": 0.5},
     Preprocessing(crop_size=32, mean_file="m.npy", scale=0.5, resize=40)),
    # Manifests.
    ({"resize": 256, "interpolation": "cubic", "crop_size": 227, "mean": [104.0, 117.0, 123.0],
      "scale": 1.0, "channel_order": "BGR"}, PREPROCESSING),
]  # fmt: skip


@pytest.mark.parametrize(("record", "expected"), RECORDS)
def test_records_of_every_kind_are_read(record: dict, expected: Preprocessing) -> None:
    assert Preprocessing.from_record(record) == expected
    again = Preprocessing.from_record(expected.to_record())
    assert again is not None
    assert again.size_before((32, 227)) == expected.size_before((32, 227))
    assert replace(again, resize=None) == replace(expected, resize=None)


@pytest.mark.parametrize(
    "record",
    [{"size": 3}, {"interpolation": "linear"}, {"protocol": "none"}, {"resize": 6, "crop_size": 7},
     {"resize": "x"}, {"mean": 5}],
)  # fmt: skip
def test_other_records_are_refused(record: dict) -> None:
    with pytest.raises((TypeError, ValueError)):
        Preprocessing.from_record(record)


def test_a_record_says_only_what_caffes_proportion_does_not() -> None:
    plain = {"crop_size", "mean", "mean_file", "scale", "mirror", "channel_order", "std"}
    assert PREPROCESSING.to_record().keys() == plain
    other = Preprocessing(crop_size=112, mean=MEAN, resize=128, protocol="shorter-side")
    assert other.to_record().keys() == plain | {"resize", "protocol"}
    assert other.size_before((112, 112)) == (128, 128)
    assert Preprocessing().size_before((227, 113)) == (256, 127)


def test_a_protocol_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROTOCOLS, "as-it-is", PROTOCOLS["caffe"])  # Taken back at the end.

    @register_protocol("as-it-is")
    class AsItIs(Protocol):
        def resized(self, image: Size, size: Size) -> Size:
            return image

    image = np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)
    made = Preprocessing(crop_size=3, resize=5, protocol="as-it-is")
    expected = image[2:5, 3:6].transpose(2, 0, 1)
    np.testing.assert_array_equal(to_input(image, made, (3, 3)), expected)
    np.testing.assert_array_equal(Transform(made)(image, None), expected)
    assert Transform(made)(image, np.random.default_rng(0)).shape == (3, 3, 3)


def test_a_list_in_utf_16(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("é.png 3\r\n".encode("utf-16"))
    (sample,) = read_list(tmp_path / "list.txt", tmp_path)
    assert (sample.path, sample.label) == (tmp_path / "é.png", 3)


def test_absurd_sizes_are_refused_by_name() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(NetError) as caught:
        to_input(image, Preprocessing(), (10**12, 227))
    assert "cannot be resized to 256 x 1127753303965: the most is 32767" in str(caught.value)
