"""squeezenet pack and mean against Caffe's convert_imageset and compute_image_mean, done simply."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from caffe2torch.data.lmdb import LmdbSource
from caffe2torch.io.blob import read_mean
from caffe2torch.io.schema import message_class
from squeezenet.cli import main

lmdb = pytest.importorskip("lmdb")

NAMES = ["a/x 1.jpg", "a/y.png", "b/z.JPEG", "b/grey.png"]
SIZES = [(31, 45), (64, 20), (30, 30), (12, 70)]


@pytest.fixture
def folder(tmp_path):
    """Four images of other types and sizes, and a list that names a missing one, too."""
    rng = np.random.default_rng(3)
    for name, size in zip(NAMES, SIZES, strict=True):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        channels = () if "grey" in name else (3,)
        pixels = rng.integers(0, 256, (*size, *channels), np.uint8)
        cv2.imwrite(str(path), cv2.GaussianBlur(pixels, (0, 0), 2))
    lines = [f"{NAMES[0]} 4", f"{NAMES[1]} 0", "gone.jpg 1", f"{NAMES[2]} 2", f"{NAMES[3]} 700"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return tmp_path


def squeezenet(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def packed(folder, *options, name="db"):
    output = folder / name
    result = squeezenet("pack", "--data", folder, "--list", "list.txt", *options, output)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in output.iterdir()) == ["data.mdb", "lock.mdb"]
    return records(output)


def records(output):
    with lmdb.open(str(output), readonly=True, lock=False) as environment, environment.begin() as t:
        return [(bytes(key), bytes(value)) for key, value in t.cursor()]


def as_caffe(folder, size=(256, 256), gray=False, encoded=None):
    """The records of convert_imageset."""
    expected = []
    for number, line in enumerate((folder / "list.txt").read_text().split("\n")):
        name, label = line.rsplit(" ", 1)
        image = cv2.imread(str(folder / name), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
        if image is None:
            continue
        if size:
            image = cv2.resize(image, size[::-1])
        datum = message_class("Datum")(label=int(label), encoded=encoded is not None)
        if encoded is None:
            datum.height, datum.width = image.shape[:2]
            planes = cv2.split(image)
            datum.channels, datum.data = len(planes), b"".join(p.tobytes() for p in planes)
        elif not size and name.lower().endswith((".jpg", ".jpeg") if encoded == "jpg" else ".png"):
            datum.data = (folder / name).read_bytes()
        else:
            datum.data = cv2.imencode("." + encoded, image)[1].tobytes()
        expected.append((f"{number:08d}_{name}".encode(), datum.SerializeToString()))
    return expected


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {}),
        (("--resize", "20x33"), {"size": (20, 33)}),
        (("--gray", "--resize", 30), {"gray": True, "size": (30, 30)}),
        (("--resize", 0), {"size": None}),
        (("--encoded", "png"), {"encoded": "png"}),
        (("--encoded", "jpg", "--resize", 0), {"encoded": "jpg", "size": None}),
    ],
)
def test_the_bytes_are_those_of_convert_imageset(folder, options, expected, workers):
    assert packed(folder, *options, "--workers", workers) == as_caffe(folder, **expected)


def test_the_numbers_are_those_of_the_shuffled_order(folder):
    found = packed(folder, "--shuffle", "--seed", 5)
    plain = {key[9:]: value for key, value in as_caffe(folder)}
    assert {key[9:]: value for key, value in found} == plain
    assert len({key[:8] for key, _ in found}) == 4
    assert [key[9:] for key, _ in found] != list(plain)
    assert packed(folder, "--shuffle", "--seed", 5, name="again") == found


def test_bad_images_are_named_and_left_out(folder):
    result = squeezenet("pack", "--data", folder, "--list", "list.txt", folder / "db")
    assert "4 of 5 images" in result.output
    assert f"gone.jpg ({folder / 'list.txt'}:3): No such file" in result.output
    result = squeezenet(
        "pack", "--data", folder, "--list", "list.txt", "--on-bad-image", "fail", folder / "other"
    )
    assert result.exit_code == 2
    assert "list.txt:3): No such file" in result.output.splitlines()[-1]


def test_check_size(folder):
    options = ("pack", "--data", folder, "--list", "list.txt", "--check-size")
    assert squeezenet(*options, folder / "db").exit_code == 0
    result = squeezenet(*options, "--resize", 0, folder / "other")
    assert result.exit_code == 2
    said = result.output.splitlines()[-1]
    assert f"y.png ({folder / 'list.txt'}:2): the image is (3, 64, 20)" in said
    assert "but the first one is (3, 31, 45)" in said


def test_what_cannot_be_packed_is_one_line(folder):
    def refused(*arguments):
        result = squeezenet("pack", *arguments)
        assert result.exit_code == 2
        return result.output.splitlines()[-1]

    packed(folder)
    assert "db exists: remove it, or give another name" in refused("--data", folder, folder / "db")
    assert "db holds images that are no files: give a list" in refused(
        "--data", folder, "--list", "db", folder / "new"
    )
    assert "holds no class folder" in refused("--data", folder / "a", folder / "new")
    assert "is not 0, a side or HEIGHTxWIDTH" in refused("--resize", "2x", folder / "new")
    (folder / "none.txt").write_text(f"{NAMES[0]} 1\n")
    (folder / NAMES[0]).write_text("no image")
    assert "none of the 1 images could be used" in refused(
        "--data", folder, "--list", "none.txt", folder / "new"
    )
    assert not (folder / "new.part").exists()


def test_a_tree_of_class_folders(folder):
    assert squeezenet("pack", "--data", folder, folder / "tree").exit_code == 0
    found = [
        (key, LmdbSource(folder / "tree").read(n)[1])
        for n, (key, _) in enumerate(records(folder / "tree"))
    ]
    assert found == [
        (b"00000000_a/x 1.jpg", 0),
        (b"00000001_a/y.png", 0),
        (b"00000002_b/grey.png", 1),
        (b"00000003_b/z.JPEG", 1),
    ]


SLOW = """
import sys
from squeezenet import pack, sinks
from squeezenet.cli import main
sinks.COMMIT_BYTES, pack.CHUNK = 20_000, 5
main()
"""


def test_a_worker_that_is_killed_is_named(folder):
    (folder / "list.txt").write_text("\n".join(f"{NAMES[n % 3]} {n}" for n in range(2000)))
    options = ["--data", folder, "--list", "list.txt", "--workers", "2", folder / "out"]
    text = """
    import multiprocessing, os, signal
    from squeezenet.cli import main
    from squeezenet.sinks import DatabaseSink

    put = DatabaseSink.put
    def put_and_kill(database, items):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
        put(database, items)
    DatabaseSink.put = put_and_kill
    main()
    """
    command = [sys.executable, "-c", textwrap.dedent(text), "pack", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "which reads the data, was killed by SIGKILL" in done.stderr
    assert "the same command goes on from here" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()


def test_a_killed_packing_goes_on(folder):
    """Killed without warning after some of its records are there; ends with the same records."""
    lines = [f"{NAMES[n % 3]} {n}" for n in range(2000)] + ["gone.jpg 7"]
    (folder / "list.txt").write_text("\n".join(lines))
    options = ["--data", folder, "--list", "list.txt", "--resize", "40", "--shuffle"]
    whole = packed(folder, *options[4:])
    output, part = folder / "killed", folder / "killed.part"
    command = [sys.executable, "-c", SLOW, "pack", *map(str, options), str(output)]
    data = part / "data.mdb"
    kills, counts, size = 0, [0], 0
    while not output.exists():
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=os.environ, start_new_session=True
        ) as process:
            limit = time.monotonic() + 60
            while kills < 2 and process.poll() is None and time.monotonic() < limit:
                if data.exists() and data.stat().st_size > size + 2_000_000:
                    os.killpg(process.pid, signal.SIGKILL)
                    break
            _, said = process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            counts.append(len(records(part)))
            size = data.stat().st_size
        else:
            assert process.returncode == 0, said
            assert "going on after" in said
    assert kills == 2
    assert 0 < counts[1] < counts[2] < len(whole)
    assert records(output) == whole
    assert not part.exists()


def test_the_remains_of_another_packing_are_not_mixed_in(folder):
    part = folder / "db.part"
    part.mkdir()
    (part / "pack.json").write_text(json.dumps({"gray": True}))
    result = squeezenet("pack", "--data", folder, "--list", "list.txt", folder / "db")
    assert result.exit_code == 2
    assert "db.part is the beginning of another packing, which differs in size" in result.output


@pytest.mark.parametrize("options", [(), ("--gray",), ("--encoded", "png")])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_mean_is_that_of_compute_image_mean(folder, options, workers, monkeypatch):
    monkeypatch.setattr("squeezenet.mean.CHUNK", 2)
    packed(folder, "--resize", "20x33", *options)
    result = squeezenet("mean", folder / "db", folder / "mean.binaryproto", "--workers", workers)
    assert result.exit_code == 0, result.output
    images = []
    for line in (folder / "list.txt").read_text().split("\n"):
        image = cv2.imread(str(folder / line.rsplit(" ", 1)[0]), 0 if "--gray" in options else 1)
        if image is not None:
            images.append(cv2.resize(image, (33, 20)).reshape(20, 33, -1).transpose(2, 0, 1))
    total = np.zeros(images[0].shape, np.float32)
    for image in images:
        total += image
    total /= np.float32(len(images))
    blob = message_class("BlobProto")(num=1, channels=len(total), height=20, width=33)
    blob.data.extend(total.ravel())
    assert (folder / "mean.binaryproto").read_bytes() == blob.SerializeToString()
    np.testing.assert_array_equal(read_mean(folder / "mean.binaryproto"), total)
    assert f"channel 0  {total[0].mean(dtype=np.float64):.4f}" in result.output


def test_a_mean_of_images_of_several_sizes_is_refused(folder, monkeypatch):
    packed(folder, "--resize", 0)
    for chunk in (1, 10):
        monkeypatch.setattr("squeezenet.mean.CHUNK", chunk)
        result = squeezenet("mean", folder / "db", folder / "mean.binaryproto")
        assert result.exit_code == 2
        assert "key '00000001_a/y.png': the image is (3, 64, 20)" in result.output
    assert not (folder / "mean.binaryproto").exists()


def test_training_reads_what_was_packed(folder):
    packed(folder, "--resize", 70)
    assert squeezenet("mean", folder / "db", folder / "mean.binaryproto").exit_code == 0
    result = squeezenet(
        "train", "--train-list", folder / "db", "--val-list", folder / "db", "--max-iter", 1,
        "--num-classes", 701, "--mean", folder / "mean.binaryproto", "--resize", 70, "--crop", 63,
        "--protocol", "caffe", "--batch-size", 2, "--workers", 0, "--device", "cpu",
        "--out", folder / "run",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (folder / "run" / "last.pt").exists()
