"""squeezenet pack into tar files, against what tarfile, the LMDB and training on the files say."""

import gc
import json
import os
import resource
import signal
import subprocess
import sys
import tarfile
import time

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from caffe2torch.data.lmdb import LmdbSource
from squeezenet.checkpoint import load_checkpoint
from squeezenet.cli import main
from squeezenet.shards import ShardSource
from squeezenet.sources import open_split

NAMES = ["a/x 1.jpg", "a/y.z.png", "b/ü.JPEG", "b/grey.png"]
SIZES = [(71, 85), (84, 70), (70, 70), (72, 90)]
LABELS = [4, 0, 2, 700]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of other types and sizes, and a list that names a missing one, too."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    lines = ["gone.jpg 1"]
    for name, size, label in zip(NAMES, SIZES, LABELS, strict=True):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (*size, *(() if "grey" in name else (3,))), np.uint8)
        pixels = cv2.GaussianBlur(pixels, (0, 0), 2)
        path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())
        lines.append(f"{name} {label}")
    (folder / "list.txt").write_text("\n".join(lines))
    return folder


def squeezenet(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def pack(images, *options, listing="list.txt"):
    result = squeezenet("pack", "--data", images, "--list", listing, *options)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()[-1]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ((), "bmp"),
        (("--resize", "20x33"), "bmp"),
        (("--resize", 0), "bmp"),
        (("--gray",), "bmp"),
        (("--encoded", "png", "--shuffle", "--seed", 5), "png"),
        (("--encoded", "jpg", "--resize", 0), "jpg"),
    ],
)
def test_the_images_are_those_of_the_database(images, tmp_path, options, kind):
    pytest.importorskip("lmdb")
    options = (*options, "--workers", 0)
    said = pack(images, *options, tmp_path / "s-%03d.tar")
    assert said == f"{tmp_path}/s-{{000..000}}.tar  4 of 5 images"
    pack(images, *options, tmp_path / "lmdb")
    source, database = ShardSource([f"{tmp_path}/s-000.tar"]), LmdbSource(tmp_path / "lmdb")
    assert len(source) == len(database) == len(NAMES)
    for index in range(len(source)):
        (pixels, label), (same, number) = source.read(index), database.read(index)
        np.testing.assert_array_equal(pixels, same)
        assert label == number
    with tarfile.open(tmp_path / "s-000.tar") as tar:
        assert {name.rpartition(".")[2] for name in tar.getnames()} == {"cls", kind}


def test_members_are_named_as_readers_expect_and_have_no_time(images, tmp_path):
    pack(images, "--encoded", "png", tmp_path / "s-%06d.tar")
    keys = ["00000001_a_x_1", "00000002_a_y_z", "00000003_b__", "00000004_b_grey"]
    samples = []
    with tarfile.open(tmp_path / "s-000000.tar") as tar:
        members = tar.getmembers()
        for key, label, (text, image) in zip(
            keys, LABELS, zip(*[iter(members)] * 2, strict=True), strict=True
        ):
            assert [text.name, image.name] == [f"{key}.cls", f"{key}.png"]
            assert tar.extractfile(text).read() == str(label).encode()
            samples.append(
                f"cls {text.offset_data} {text.size} {text.name} "
                f"png {image.offset_data} {image.size} {image.name}\n"
            )
        assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} == {
            (0, 0, 0, "", "")
        }
    assert (tmp_path / "s-000000.idx").read_text() == "".join(["v1.2 4\n", *samples])
    listing = images / "long.txt"
    listing.write_text(f"a/{'./' * 400}x 1.jpg 3\n")
    pack(images, tmp_path / "long-%d.tar", listing="long.txt")
    assert len(ShardSource([f"{tmp_path}/long-0.tar"])) == 1


def test_the_mean_is_that_of_the_database(images, tmp_path):
    pytest.importorskip("lmdb")
    for name, packed in (("s-%d.tar", "s-{0..0}.tar"), ("lmdb", "lmdb")):
        pack(images, "--resize", "20x33", tmp_path / name)
        result = squeezenet("mean", tmp_path / packed, tmp_path / f"{name}.binaryproto")
        assert result.exit_code == 0, result.output
    means = [path.read_bytes() for path in sorted(tmp_path.glob("*.binaryproto"))]
    assert means[0] == means[1]
    pack(images, "--resize", 0, tmp_path / "all-%d.tar")
    result = squeezenet("mean", tmp_path / "all-{0..0}.tar", tmp_path / "no.binaryproto")
    assert result.exit_code == 2
    assert "all-0.tar, image at byte" in result.output
    assert "a mean needs images of one size" in result.output


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # It leaves closing files to Python.
def test_the_library_reads_them(images, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pack(images, "--shard-size", "300kb", tmp_path / "s-%06d.tar")
    pattern = f"{tmp_path}/s-{{000000..000003}}.tar"
    found = list(webdataset.WebDataset(pattern, shardshuffle=False).decode())
    gc.collect()
    assert [one["cls"] for one in found] == LABELS
    source = open_split(tmp_path, pattern, "train").source
    for index, one in enumerate(found):
        pixels = cv2.imdecode(np.frombuffer(one["bmp"], np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(pixels, source.read(index)[0])


def test_files_are_as_large_as_asked_for(images, tmp_path):
    (images / "many.txt").write_text("".join(f"{NAMES[n % 2]} {n}\n" for n in range(23)))
    options = ("--resize", 20, "--shard-size", "16KiB")
    said = pack(images, *options, tmp_path / "s-%02d.tar", listing="many.txt")
    assert said == f"{tmp_path}/s-{{00..04}}.tar  23 of 23 images"
    # Five of 3072 bytes (2 blocks for the label; 1 and 3 for 20x20 pixels) and two of zeros.
    sizes = [file.stat().st_size for file in sorted(tmp_path.glob("*.tar"))]
    assert sizes == [16384, 16384, 16384, 16384, 10240]
    source = open_split(tmp_path, "s-{00..04}.tar", "train").source
    assert [source.read(index)[1] for index in range(23)] == list(range(23))
    said = pack(images, "--shard-size", "1kb", tmp_path / "one" / "%d.tar", listing="many.txt")
    assert said == f"{tmp_path}/one/{{0..22}}.tar  23 of 23 images"


SLOW = """
from squeezenet import pack
from squeezenet.cli import main
pack.CHUNK = 5
main()
"""


def test_a_killed_packing_goes_on(images, tmp_path):
    """Killed without warning twice; ends with the same bytes."""
    lines = [f"{NAMES[n % 3]} {n}\n" for n in range(1500)]
    (images / "long.txt").write_text("".join([*lines, "gone.jpg 7\n"]))
    options = ["--resize", "40", "--shuffle", "--shard-size", "600kb"]
    said = pack(images, *options, tmp_path / "whole" / "%06d.tar", listing="long.txt")
    assert said.endswith("1500 of 1501 images")
    whole = contents(tmp_path / "whole")
    folder = tmp_path / "killed"
    command = [
        *(sys.executable, "-c", SLOW, "pack", "--data", images, "--list", "long.txt"),
        *(*options, folder / "%06d.tar"),
    ]
    for awaited in (3, 7, None):
        with subprocess.Popen(
            list(map(str, command)), stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as process:
            limit = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < limit:
                if awaited and (folder / f"{awaited:06}.tar").exists():
                    os.killpg(process.pid, signal.SIGKILL)
                    break
                time.sleep(0.001)
            _, said = process.communicate(timeout=60)
        if awaited:
            assert process.returncode == -signal.SIGKILL
            assert (folder / "%06d.tar.part").exists()
            for path in folder.glob("*.tar"):
                assert path.read_bytes() == whole[path.name]
    assert process.returncode == 0, said
    assert "going on after" in said
    assert contents(folder) == whole


def test_a_disk_that_is_full_is_named_and_the_command_goes_on(images, tmp_path):
    (images / "many.txt").write_text("".join(f"{NAMES[n % 2]} {n}\n" for n in range(23)))
    options = ("--data", images, "--list", "many.txt", "--workers", 0, "--shard-size", "700kb")
    sizes = ("--resize", 0, "--encoded", "png", tmp_path / "s-%d.tar")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        result = squeezenet("pack", *options, *sizes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 2
    assert "s-0.tar: cannot be written: File too large" in result.output.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["s-%d.tar.part"]
    assert squeezenet("pack", *options, *sizes).exit_code == 0
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["s-0.idx", "s-0.tar"]


def test_a_damaged_index_is_made_again_with_its_file(images, tmp_path, monkeypatch):
    monkeypatch.setattr("squeezenet.pack.CHUNK", 1)
    listing = images / "last.txt"
    listing.write_text("".join(f"{NAMES[n % 2]} {n}\n" for n in range(22)) + "list.txt 22\n")
    options = ("--data", images, "--list", listing.name, "--resize", 20, "--shard-size", "16KiB")
    assert squeezenet("pack", *options, tmp_path / "whole" / "%d.tar").exit_code == 0
    again = tmp_path / "again" / "%d.tar"
    result = squeezenet("pack", *options, "--on-bad-image", "fail", again)  # It is the last one.
    assert result.exit_code == 2
    index = tmp_path / "again" / "1.idx"
    index.write_bytes(index.read_bytes()[:-40])
    assert "going on after 5 of 23 images" in squeezenet("pack", *options, again).output
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")


def test_what_is_there_is_not_written_over(images, tmp_path):
    def refused(*arguments):
        result = squeezenet("pack", "--data", images, "--list", "list.txt", *arguments)
        assert result.exit_code == 2
        return result.output.splitlines()[-1]

    pattern = tmp_path / "s-%06d.tar"
    (tmp_path / "s-000007.tar").touch()
    assert "s-000007.tar exists: remove it, or give another name" in refused(pattern)
    for name in ("s.tar", "s-{000000..000009}.tar", "%06d-%d.tar"):
        assert "name them as train-%06d.tar does" in refused(tmp_path / name)
    assert "is not a size" in refused("--shard-size", "0", tmp_path / "t-%d.tar")
    assert "is for tar files" in refused("--shard-size", "1GB", tmp_path / "lmdb")
    for name in ("s-%06d.tgz", "s-%d"):
        assert "is numbered as tar files are: end it in .tar" in refused(tmp_path / name)
        assert not list(tmp_path.glob("s-%*"))
    (images / "short.txt").write_text(f"{NAMES[0]} 1\nlist.txt 2\n")
    options = ("--list", "short.txt", "--on-bad-image", "fail", tmp_path / "size-%d.tar")
    assert "short.txt:2" in refused(*options, "--shard-size", "1MB")
    assert "size-%d.tar.part is the beginning of another packing, which differs in shard_size" in (
        refused(*options, "--shard-size", "2MB")
    )
    (tmp_path / "t-%d.tar.part").write_text(json.dumps({"gray": True}))
    said = refused(tmp_path / "t-%d.tar")
    assert "t-%d.tar.part is the beginning of another packing, which differs in size" in said
    (tmp_path / "none.txt").write_text("gone.jpg 1\n" * 2 + "list.txt 2\n")
    said = refused("--list", tmp_path / "none.txt", tmp_path / "u-%d.tar")
    assert "none of the 3 images could be used" in said
    assert not list(tmp_path.glob("u-*"))


def test_the_size_of_the_first_image_holds_after_an_interruption(images, tmp_path, monkeypatch):
    monkeypatch.setattr("squeezenet.pack.CHUNK", 1)
    (images / "three.txt").write_text(f"{NAMES[0]} 1\n{NAMES[0]} 2\n{NAMES[1]} 3\n")
    options = ("--resize", 0, "--check-size", "--shard-size", "1kb", tmp_path / "s-%d.tar")
    for going_on in (False, True):
        result = squeezenet("pack", "--data", images, "--list", "three.txt", *options)
        assert result.exit_code == 2
        assert (
            "the image is (3, 84, 70) (channels, height, width), but the first one is (3, 71, "
            in (result.output)
        )
        assert ("going on after 1 of 3 images" in result.output) == going_on


def test_training_on_them_is_training_on_the_files(images, tmp_path):
    states = []
    for kind in tree_and_shards(tmp_path):
        result = squeezenet(*training(kind), "--out", tmp_path / "run")
        assert result.exit_code == 0, result.output
        states.append(load_checkpoint(tmp_path / "run" / "last.pt")["model"])
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_find_the_same_images_in_them(tmp_path):
    states = []
    for kind in tree_and_shards(tmp_path):
        words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
        options = (*training(kind), "--threads", 1, "--out", tmp_path / "run")
        done = subprocess.run(
            [sys.executable, *words, "squeezenet", *map(str, options)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        states.append(load_checkpoint(tmp_path / "run" / "last.pt")["model"])
    torch.testing.assert_close(*states, rtol=0, atol=0)


def tree_and_shards(folder):
    """The same images as files and in three tar files."""
    tree = folder / "tree"
    rng = np.random.default_rng(0)
    for index in range(6):
        path = tree / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (66 + index, 70, 3), np.uint8))
    options = ("--encoded", "jpg", "--resize", 0, "--shard-size", "20kb", folder / "s-%d.tar")
    assert squeezenet("pack", "--data", tree, *options).exit_code == 0
    shards = folder / "s-{0..2}.tar"
    assert len(open_split(shards, None, "train").source) == 6
    return tree, shards


def training(images):
    return (
        "train", "--train-list", images, "--val-list", images, "--num-classes", 2, "--workers", 0,
        "--max-iter", 4, "--batch-size", 4, "--resize", 70, "--crop", 63, "--device", "cpu",
    )  # fmt: skip
