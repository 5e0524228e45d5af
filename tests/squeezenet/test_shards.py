"""Images in tar files, against what Python's tarfile and the rules of WebDataset say of them."""

import gc
import http.server
import io
import os
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from caffe2torch.errors import ReadError
from caffe2torch.images import ImageError
from squeezenet import shards
from squeezenet.shards import ShardSource, expand
from squeezenet.sources import count_classes, open_files, open_split

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


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # It leaves closing files to Python.
def test_the_library_finds_the_same_samples(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    members = [*sample(1, "a/"), ("a/0002.JPG", b""), ("a/0002.cls", b"2"), *sample(3, "a.b/")]
    path = write_tar(tmp_path / "0.tar", [("__x__", b""), *members])
    found = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    gc.collect()
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


def indexed_shard(path, numbers):
    """A tar file of these samples and its index, as old as each other."""
    members = [member for number in numbers for member in sample(number)]
    write_index(write_tar(path, [("__meta__/x.json", b"{}"), *members]))
    return str(path)


def stamp(path, seconds):
    os.utime(path, (seconds, seconds))


@pytest.fixture
def walks(monkeypatch):
    """The files whose headers are read, as they are."""
    walks, walk = [], shards._walk

    def noting(file, path):
        walks.append(path)
        return walk(file, path)

    monkeypatch.setattr(shards, "_walk", noting)
    return walks


def test_an_index_saves_the_walk_where_it_is_as_new_as_its_file(tmp_path, walks):
    path = indexed_shard(tmp_path / "0.tar", [1, 2, 3])
    index = tmp_path / "0.idx"

    def walked(members=(1, 2, 3)):
        walks.clear()
        check(ShardSource([path]), members)
        return walks == [path]

    stamp(path, 1000)
    stamp(index, 1000)
    assert not walked()
    stamp(index, 999)
    assert walked()
    stamp(index, 1001)
    whole = index.read_text()
    first = f"png {whole.split()[7]} "
    for wrong in (
        "",
        whole.replace("v1.2", "v1.1"),
        "\n".join(["v1.2 3", *whole.split("\n")[1:-2], ""]),  # The last sample is left out.
        whole.replace(first, f"png {10**30} "),
        whole.replace(first, f"png {10**6} "),
        whole.replace(first, "png 0 "),
        "v1.2 0\n",
    ):
        index.write_text(wrong)
        assert walked(), wrong
    index.write_text(whole)
    assert not walked()
    write_tar(tmp_path / "0.tar", [m for n in (1, 2, 3, 4) for m in sample(n)])  # Another one,
    stamp(path, 1000)  # which says that it is older.
    assert walked([1, 2, 3, 4])


def test_a_shard_that_does_not_fit_its_index_is_named(tmp_path):
    """However new the index is: a cut is seen at the start, and what lies elsewhere when read."""
    path = tmp_path / "0.tar"
    indexed_shard(path, [1, 2, 3])
    whole = path.read_bytes()
    for cut in (len(whole.rstrip(b"\0")) - 1, whole.index(b"0003.png"), 700, 0):
        path.write_bytes(whole[:cut])
        stamp(path, 1000)
        with pytest.raises(ReadError, match=r"0\.tar (was cut short|holds no samples)"):
            ShardSource([str(path)])
    damaged = whole.replace(b"0002.png", b"0009.png")
    path.write_bytes(damaged)
    stamp(path, 1000)
    source = ShardSource([str(path)])
    source.read(0)
    with pytest.raises(ReadError, match=r"0\.tar has no sample of .* was changed or is damaged"):
        source.read(1)
    stamp(path, 10**10)
    with pytest.raises(ReadError, match=r"0\.tar: the sample '0009' has the members"):
        ShardSource([str(path)])


class Pair:
    """Two processes of a job, which here are threads."""

    world = 2

    def __init__(self, rank, values, barrier):
        self.rank, self.values, self.barrier = rank, values, barrier

    def gather(self, value):
        self.values[self.rank] = value
        self.barrier.wait(60)
        return list(self.values)


def on_both(work):
    """What ``work`` returns or raises on each of the two."""
    values, barrier = [None, None], threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        parts = [pool.submit(work, Pair(rank, values, barrier)) for rank in range(2)]
    return [part.exception() or part.result() for part in parts]


def test_the_processes_of_a_job_walk_a_share_each(tmp_path, walks):
    for number in range(5):
        write_tar(tmp_path / f"{number}.tar", [m for n in range(number + 1) for m in sample(n)])
    names = [str(tmp_path / f"{number}.tar") for number in range(5)]
    sources = on_both(lambda team: ShardSource(names, team))
    assert sorted(walks) == names
    expected = [number for last in range(5) for number in range(last + 1)]
    for source in sources:
        check(source, expected)
    (tmp_path / "3.tar").write_bytes(b"PK" * 600)
    for error in on_both(lambda team: ShardSource(names, team)):
        assert isinstance(error, ReadError)
        assert "3.tar: there is no tar header" in str(error)


def test_another_copy_of_a_shard_is_named(tmp_path):
    """As it may lie on another machine of the job."""
    for rank, numbers in enumerate([[1, 2], [1, 2, 3]]):
        folder = tmp_path / str(rank)
        folder.mkdir()
        write_tar(folder / "0.tar", [member for number in numbers for member in sample(number)])
        with tarfile.open(folder / "0.tar") as tar:
            assert len(tar.getmembers()) == 2 * len(numbers)
        with (folder / "0.tar").open("ab") as file:
            file.write(bytes(rank * 512))
    own, other = on_both(lambda team: ShardSource([f"{tmp_path}/{team.rank}/0.tar"], team))
    check(own, [1, 2])
    assert isinstance(other, ReadError)
    assert "1/0.tar has 10,752 bytes, and 10,240 where another process" in str(other)


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
        with pytest.raises(ReadError, match=r"has no sample of .* make the index again") as caught:
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
        text[:-3],
    ):
        (tmp_path / "s.idx").write_text(wrong)
        with pytest.raises(ReadError, match=r"s.idx is no whole index"):
            ShardSource([f"{server}/s.tar"])
