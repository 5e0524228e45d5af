"""Images in tar files, against what Python's tarfile and the rules of WebDataset say of them."""

import http.server
import io
import tarfile
import threading

import cv2
import numpy as np
import pytest

from caffe2torch.errors import ReadError
from caffe2torch.images import ImageError
from squeezenet import shards
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


def write(*arguments):
    return str(write_tar(*arguments))


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
    check(ShardSource([write(tmp_path / "0.tar", members, kind)]), [1, 2, 3])


def test_names_longer_than_ustar_has_room_for(tmp_path):
    for kind in ("gnu", "pax"):
        members = [*sample(1, "x" * 300 + "/"), *sample(2)]
        check(ShardSource([write(tmp_path / f"{kind}.tar", members, kind)]), [1, 2])


def test_the_library_finds_the_same_samples(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    members = [*sample(1, "a/"), ("a/0002.JPG", b""), ("a/0002.cls", b"2"), *sample(3, "a.b/")]
    path = write_tar(tmp_path / "0.tar", [("__x__", b""), *members])
    found = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    assert [int(one["cls"]) for one in found] == [1, 2, 3]
    check(ShardSource([write(path, members[:2] + members[4:])]), [1, 3])
    assert len(ShardSource([write(path, members)])) == len(found)


def test_numbers_in_braces_name_files(tmp_path):
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand("{0..1}/{2..3}.tar") == ["0/2.tar", "0/3.tar", "1/2.tar", "1/3.tar"]
    with pytest.raises(ReadError, match=r"\{3\.\.1\} names no file; give the lower number first"):
        expand("a-{3..1}.tar")
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
        "between": (whole[: end - 512], "was cut short"),
        "size": (whole[:124] + b"z" * 12 + whole[136:], "there is no tar header at byte 0"),
        "empty": (b"\0" * 1024, "holds no samples"),
        "zip": (b"PK" * 600, "there is no tar header at byte 0"),
    }
    for name, (data, cause) in cases.items():
        (tmp_path / f"{name}.tar").write_bytes(data)
        with pytest.raises(ReadError, match=cause):
            ShardSource([str(tmp_path / f"{name}.tar")])
    for members in (sample(1)[:1], sample(1)[1:], [*sample(1), ("0001.jpg", b"")]):
        with pytest.raises(ReadError, match=r"the sample '0001' has the members .*it needs one"):
            ShardSource([write(tmp_path / "part.tar", members)])


def test_a_bad_image_or_label_is_one_of_its_sample(tmp_path):
    members = [("1.png", png(1)), ("1.cls", b"cat"), ("2.jpg", b"?"), ("2.cls", b"2\n")]
    source = ShardSource([write(tmp_path / "bad.tar", members)])
    with pytest.raises(ImageError, match=r"label \(.cls\) is b'cat', not digits"):
        source.read(0)
    with pytest.raises(ImageError, match=r"bad.tar, image at byte .* is not an image"):
        source.read(1)


class Server(http.server.BaseHTTPRequestHandler):
    """Gives files and parts of them; the first request for each part meets a busy server."""

    folder, asked, ranges = None, [], True

    def do_GET(self):
        file, wanted = self.folder / self.path[1:], self.headers.get("Range")
        if not file.exists():
            return self.send_error(404)
        self.asked.append((self.path, wanted))
        if wanted and self.asked.count((self.path, wanted)) == 1:
            return self.send_error(503)
        data = file.read_bytes()
        if wanted and self.ranges:
            first, last = map(int, wanted.removeprefix("bytes=").split("-"))
            data = data[first : last + 1]
        self.send_response(206 if wanted and self.ranges else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(Server, "folder", tmp_path)
    monkeypatch.setattr(Server, "asked", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def write_index(tar_path):
    """As wds2idx of DALI, from where Python's tarfile finds the members."""
    with tarfile.open(tar_path) as tar:
        members = [(one.name.split(".")[0], one) for one in tar]
    runs = {key: [m for k, m in members if k == key] for key, _ in members}
    lines = [
        " ".join(f"{m.name.split('.')[1]} {m.offset_data} {m.size} {m.name}" for m in run)
        for run in runs.values()
    ]
    tar_path.with_suffix(".idx").write_text("\n".join([f"v1.2 {len(lines)}", *lines, ""]))


def test_shards_behind_a_url_are_read_in_parts(tmp_path, server):
    for number in range(2):
        second = reversed(sample(2 * number + 1))
        members = [*sample(2 * number), (f"{2 * number + 1:04}.json", b"{}"), *second]
        write_index(write_tar(tmp_path / f"s-{number}.tar", members))
    split = open_split(tmp_path / "elsewhere", f"{server}/s-{{0..1}}.tar", "train")
    assert {path for path, _ in Server.asked} == {"/s-0.idx", "/s-1.idx"}
    check(split.source, range(4))
    assert len([path for path, _ in Server.asked if path.endswith(".tar")]) == 8  # Each one twice.


def test_a_server_or_an_index_that_does_not_fit_stops_the_run(tmp_path, server, monkeypatch):
    with pytest.raises(ReadError, match=r"s.idx: HTTP Error 404.* needs an index beside it"):
        ShardSource([f"{server}/s.tar"])
    path = write_tar(tmp_path / "s.tar", [*sample(1), *sample(2)])
    write_index(path)
    source = ShardSource([f"{server}/s.tar"])
    write_tar(path, [*sample(2), *sample(1)])
    for index in range(2):
        with pytest.raises(ReadError, match=r"has no member of .* make the index again") as caught:
            source.read(index)
        assert not isinstance(caught.value, ImageError)
    path.unlink()
    with pytest.raises(ReadError, match=r"cannot read .*s.tar: HTTP Error 404"):
        source.read(0)
    monkeypatch.setattr(Server, "ranges", False)
    write_tar(path, [*sample(1), *sample(2)])
    with pytest.raises(ReadError, match="sends no parts of files"):
        source.read(0)
    text = (tmp_path / "s.idx").read_text()
    for wrong in (
        text.replace("v1.2", "v1.1"),
        text.replace("v1.2 2", "v1.2 3"),
        "",
        text.replace(" 0002.cls", ""),
    ):
        (tmp_path / "s.idx").write_text(wrong)
        with pytest.raises(ReadError, match=r"s.idx is no whole index"):
            ShardSource([f"{server}/s.tar"])
