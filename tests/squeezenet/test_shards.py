"""Images in tar files, against what Python's tarfile and the rules of WebDataset say of them."""

import io
import tarfile

import cv2
import numpy as np
import pytest

from caffe2torch.errors import ReadError
from caffe2torch.images import ImageError
from squeezenet.data import count_classes, open_files, open_split
from squeezenet.shards import ShardSource, expand

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def image(seed):
    return np.random.default_rng(seed).integers(0, 256, (5 + seed, 7, 3), np.uint8)


def png(seed):
    return cv2.imencode(".png", image(seed))[1].tobytes()


def write_tar(path, members, kind="ustar"):
    with tarfile.open(path, "w", format=FORMATS[kind]) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(number, folder=""):
    return [(f"{folder}{number:04}.png", png(number)), (f"{folder}{number:04}.cls", b"%d" % number)]


def check(source, numbers):
    assert len(source) == len(numbers)
    for index, number in enumerate(numbers):
        pixels, label = source.read(index)
        np.testing.assert_array_equal(pixels, image(number))
        assert label == number


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("folder", ["", "./", "a.b/ü/", f"{'long' * 20}/{'name' * 12}/"])
def test_samples_of_every_kind_of_tar_file(tmp_path, kind, folder):
    members = [
        ("__meta__/json", b"{}"),
        *sample(1, folder),
        (f"{folder}0002.json", b"{}"),
        *sample(2, folder),
        *reversed(sample(3, folder)),
    ]
    check(ShardSource([write_tar(tmp_path / "0.tar", members, kind)]), [1, 2, 3])


def test_names_longer_than_ustar_has_room_for(tmp_path):
    for kind in ("gnu", "pax"):
        members = [*sample(1, "x" * 300 + "/"), *sample(2)]
        check(ShardSource([write_tar(tmp_path / f"{kind}.tar", members, kind)]), [1, 2])


def test_the_library_finds_the_same_samples(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    members = [*sample(1, "a/"), ("a/0002.JPG", b""), ("a/0002.cls", b"2"), *sample(3, "a.b/")]
    path = write_tar(tmp_path / "0.tar", [("__x__", b""), *members])
    found = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [int(one["cls"]) for one in found] == [1, 2, 3]
    check(ShardSource([write_tar(path, members[:2] + members[4:])]), [1, 3])
    assert len(ShardSource([write_tar(path, members)])) == len(found)


def test_numbers_in_braces_name_files(tmp_path):
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{0..1}/{2..3}.tar") == ["0/2.tar", "0/3.tar", "1/2.tar", "1/3.tar"]
    for number in range(3):
        write_tar(tmp_path / f"s-{number}.tar", [*sample(2 * number), *sample(2 * number + 1)])
    for split in (
        open_split(tmp_path, "s-{0..2}.tar", "train"),
        open_split(tmp_path / "s-{0..2}.tar", None, "train"),
        open_split(tmp_path.parent, str(tmp_path / "s-{0..2}.tar"), "train"),
    ):
        check(split.source, range(6))
    assert "s-1.tar, image at byte" in split.source.where(3)
    with pytest.raises(ReadError, match="give --num-classes"):
        count_classes(split, None, None)
    with pytest.raises(ReadError, match="no files: give a list"):
        open_files(tmp_path, "s-{0..2}.tar")
    with pytest.raises(ReadError, match=r"cannot read .*s-3.tar: No such file"):
        open_split(tmp_path, "s-{0..3}.tar", "train")


def test_what_is_no_shard_is_named(tmp_path):
    whole = write_tar(tmp_path / "whole.tar", [*sample(1), *sample(2)]).read_bytes()
    end = whole.index(b"0002.png") + 512
    cases = {
        "cut": (whole[: end + 9], "was cut short"),
        "empty": (b"\0" * 1024, "holds no samples"),
        "zip": (b"PK" * 600, "there is no tar header at byte 0"),
    }
    for name, (data, cause) in cases.items():
        (tmp_path / f"{name}.tar").write_bytes(data)
        with pytest.raises(ReadError, match=cause):
            ShardSource([tmp_path / f"{name}.tar"])
    for members in (sample(1)[:1], sample(1)[1:], [*sample(1), ("0001.jpg", b"")]):
        with pytest.raises(ReadError, match=r"the sample '0001' has the members .*it needs one"):
            ShardSource([write_tar(tmp_path / "part.tar", members)])


def test_a_bad_image_or_label_is_one_of_its_sample(tmp_path):
    members = [("1.png", png(1)), ("1.cls", b"cat"), ("2.jpg", b"?"), ("2.cls", b"2\n")]
    source = ShardSource([write_tar(tmp_path / "bad.tar", members)])
    with pytest.raises(ImageError, match=r"label \(.cls\) is b'cat', not digits"):
        source.read(0)
    with pytest.raises(ImageError, match=r"bad.tar, image at byte .* is not an image"):
        source.read(1)
