from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe2torch.errors import ReadError
from caffe2torch.images import read_list, scan_folders
from caffe2torch.preprocessing import Preprocessing
from squeezenet.data import (
    PROCESSES,
    THREADS,
    BadImageError,
    BadImages,
    ImageDataset,
    checked,
    eval_batches,
    load_batches,
    processes_of,
    train_batches,
)
from squeezenet.preprocess import MEAN, Transform, preprocess
from squeezenet.sources import FileSource, count_classes, open_split


def image(seed, height=30, width=50):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def made(resize, crop, protocol="caffe"):
    return Preprocessing(crop_size=crop, mean=MEAN, mirror=True, resize=resize, protocol=protocol)


def write_images(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.png"), image(index))
    return folder


def test_list_keeps_spaces_in_paths(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a b/the  image 1.jpg 3\r\n\n tab.jpg\t12 \nplain.jpg 0")
    samples = read_list(path, tmp_path)
    assert [(str(s.path.relative_to(tmp_path)), s.label) for s in samples] == [
        ("a b/the  image 1.jpg", 3),
        ("tab.jpg", 12),
        ("plain.jpg", 0),
    ]
    assert samples[1].line == f"{path}:3"


@pytest.mark.parametrize("line", ["only.jpg", "7", "a.jpg -1", "a.jpg 1.5", "a\0.jpg 1", "a.jpg x"])
def test_a_line_that_is_no_sample_is_named(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"fine.jpg 0\n{line}\n")
    with pytest.raises(ReadError, match=r"list.txt:2: expected a path, a space and a label"):
        read_list(path, tmp_path)


def test_lists_that_are_missing_empty_or_binary_are_errors(tmp_path):
    with pytest.raises(ReadError, match="cannot read the list"):
        read_list(tmp_path / "absent.txt", tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ReadError, match="names no image"):
        read_list(tmp_path / "empty.txt", tmp_path)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReadError, match="is not UTF-16"):
        read_list(tmp_path / "binary.txt", tmp_path)


def test_folders_are_classes_in_order_of_their_names(tmp_path):
    for name, count in (("b", 2), ("a c", 1)):
        write_images(tmp_path / name, count)
    (tmp_path / "b" / "notes.txt").write_text("no image")
    samples, classes = scan_folders(tmp_path)
    assert classes == ["a c", "b"]
    assert [s.label for s in samples] == [0, 1, 1]


def test_trees_with_different_classes_are_an_error(tmp_path):
    for split, names in (("train", "ab"), ("val", "bc")):
        for name in names:
            write_images(tmp_path / split / name, 1)
    train, val = (open_split(tmp_path, None, name) for name in ("train", "val"))
    with pytest.raises(ReadError, match=r"differ in the class folders \['a', 'c'\]"):
        count_classes(train, val, None)


def test_test_transform_is_the_preprocessing_of_the_weights():
    for height, width in ((300, 200), (256, 256), (40, 500)):
        bgr = image(5, height, width)
        np.testing.assert_array_equal(Transform()(bgr, None), preprocess(bgr))


def test_training_crop_is_a_crop_of_the_warped_image():
    bgr = image(3, 90, 120)
    whole = cv2.resize(bgr, (40, 40), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    transform = Transform(
        Preprocessing(resize=40, crop_size=32, mean=(1.0, 2.0, 3.0), scale=0.5, mirror=True)
    )
    found = set()
    for seed in range(60):
        got = transform(bgr, np.random.default_rng(seed)).transpose(1, 2, 0) / 0.5 + (1, 2, 3)
        for top in range(9):
            for left in range(9):
                crop = whole[top : top + 32, left : left + 32]
                for mirrored in (False, True):
                    if np.array_equal(got, crop[:, ::-1] if mirrored else crop):
                        found.add((top, left, mirrored, seed))
    assert len({seed for *_, seed in found}) == 60
    assert {mirrored for _, _, mirrored, _ in found} == {False, True}
    assert {top for top, *_ in found} == set(range(9)) == {left for _, left, *_ in found}


def test_mean_image_is_subtracted_where_the_crop_lies():
    bgr = image(4, 40, 40)
    mean = np.random.default_rng(1).random((3, 40, 40), np.float32) * 255
    transform = Transform(Preprocessing(resize=40, crop_size=33, mirror=True), mean)
    whole = bgr.astype(np.float32) - mean.transpose(1, 2, 0)
    got = transform(bgr, None).transpose(1, 2, 0)
    np.testing.assert_array_equal(got, whole[3:36, 3:36])
    for seed in range(8):
        got = transform(bgr, np.random.default_rng(seed)).transpose(1, 2, 0)
        crops = [whole[t : t + 33, x : x + 33] for t in range(8) for x in range(8)]
        assert any(np.array_equal(got, c) or np.array_equal(got, c[:, ::-1]) for c in crops)


@pytest.mark.parametrize("protocol", ["caffe", "shorter-side", "random-resized-crop"])
def test_every_protocol_gives_the_net_its_size(protocol):
    transform = Transform(made(70, 64, protocol), rotation=20, jitter=0.4)
    for height, width in ((64, 64), (31, 200), (200, 31), (1, 1)):
        bgr = image(1, height, width)
        for rng in (None, np.random.default_rng(0)):
            out = transform(bgr, rng)
            assert out.shape == (3, 64, 64)
            assert out.dtype == np.float32
            assert np.isfinite(out).all()


def test_shorter_side_keeps_the_aspect_ratio():
    bgr = image(1, 100, 200)
    got = Transform(Preprocessing(resize=50, crop_size=40, protocol="shorter-side"))(bgr, None)
    whole = cv2.resize(bgr, (100, 50), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(got.transpose(1, 2, 0), whole[5:45, 30:70])


def test_workers_and_their_number_change_nothing(tmp_path):
    for name in "ab":
        write_images(tmp_path / name, 5)
    samples, _ = scan_folders(tmp_path)
    transform = Transform(made(40, 32, "random-resized-crop"), rotation=9, jitter=0.2)
    dataset = ImageDataset(FileSource(samples), transform, seed=3)
    seen = []
    for workers in (0, 1, 2, 5, 16):
        batches = iter(load_batches(dataset, train_batches(10, 4, seed=3), workers=workers))
        # More of them are kept than there are slots.
        seen.append(torch.cat([next(batches).images for _ in range(20)]))
        del batches
    assert all(torch.equal(seen[0], other) for other in seen[1:])
    assert not torch.equal(seen[0][:4], seen[0][4:8])


@pytest.mark.parametrize("workers", range(1, 40))
def test_each_worker_is_a_thread_of_one_process(workers):
    processes = processes_of(workers)
    shares = [len(range(number, workers, processes)) for number in range(processes)]
    assert sum(shares) == workers
    assert 1 <= min(shares) <= max(shares) <= THREADS
    assert processes <= max(PROCESSES, -(-workers // THREADS))


def test_sampler_gives_every_image_once_an_epoch_and_resumes_anywhere():
    batches = train_batches(7, 3, seed=5)
    first = [next(batches) for _ in range(14)]
    stream = [draw for batch in first for draw in batch]
    for epoch in range(6):
        part = stream[7 * epoch : 7 * epoch + 7]
        assert {e for e, _ in part} == {epoch}
        assert sorted(index for _, index in part) == list(range(7))
    assert stream[:7] != [(0, index) for _, index in stream[7:14]]
    resumed = train_batches(7, 3, seed=5, start=15)
    assert [batch for batch, _ in zip(resumed, range(9), strict=False)] == first[5:]


@pytest.mark.parametrize(("world", "shares"), [(3, [2, 2, 2]), (4, [1, 2, 1, 2]), (9, None)])
def test_processes_share_each_batch(world, shares):
    """Whatever their number, and whatever it was before: a position is enough to go on from."""
    whole = iter(train_batches(7, 6, seed=5, start=4))
    parts = [train_batches(7, 6, seed=5, rank=r, world=world, start=4) for r in range(world)]
    for _ in range(5):
        pieces = [next(part) for part in parts]
        assert next(whole) == [draw for piece in pieces for draw in piece]
        assert shares in (None, [len(piece) for piece in pieces])


def test_processes_share_an_evaluation():
    shares = [list(eval_batches(7, 2, rank=rank, world=3)) for rank in range(3)]
    assert sorted(i for share in shares for batch in share for _, i in batch) == list(range(7))


@pytest.fixture
def damaged(tmp_path):
    """A list of five files: one is missing, one is cut short, one is text."""
    write_images(tmp_path, 5)
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:20])
    (tmp_path / "3.png").write_text("<html>not found</html>")
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{index}.png {index % 2}\n" for index in range(5)))
    return ImageDataset(FileSource(read_list(path, tmp_path)), Transform(made(40, 32)), seed=None)


def test_bad_images_are_named_counted_and_left_out(damaged):
    said = []
    bad = BadImages("skip", said.append)
    for _ in range(2):
        loader = load_batches(damaged, eval_batches(5, 5), workers=0)
        (batch,) = checked(loader, damaged, 2, bad)
        assert batch.indices.tolist() == [0, 4]
        assert batch.images.shape == (2, 32, 32, 3)
    assert len(bad) == 3
    assert len(said) == 3
    assert "1.png" in said[0]
    assert "cannot read the image" in said[0]
    assert "list.txt:2): No such file" in said[0]
    assert "list.txt:3)" in said[1]
    assert "not an image that OpenCV can decode" in said[2]


def test_bad_images_fail_if_asked(damaged):
    loader = load_batches(damaged, eval_batches(5, 5), workers=0)
    with pytest.raises(BadImageError, match=r"cannot read .*list.txt:2\): .*--on-bad-image skip"):
        list(checked(loader, damaged, 2, BadImages("fail", print)))


def test_a_batch_of_bad_images_alone_is_empty(damaged):
    batch = damaged.batch([(0, 3), (0, 1)])
    assert batch.images.shape == (0, 32, 32, 3)
    assert len(batch.labels) == 0
    assert [Path(bad.where.split(" (")[0]).name for bad in batch.bad] == ["3.png", "1.png"]


def test_bad_images_of_threads_are_left_out_alike(damaged):
    draws = [(0, index) for index in (4, 3, 0, 1, 2, 0, 4)]
    one, many = damaged.batch(draws), damaged.batch(draws, threads=3)
    assert one.indices.tolist() == many.indices.tolist() == [4, 0, 0, 4]
    assert torch.equal(one.images, many.images)
    assert one.bad == many.bad
    assert len(one.bad) == 3


def test_what_a_thread_raises_is_raised():
    class Source:
        def __len__(self):
            return 9

        def read(self, index, decode=None):
            if index == 5:
                raise ReadError("the disk is gone")
            return image(index), 0

    dataset = ImageDataset(Source(), Transform(made(40, 32)), seed=None)
    for threads in (1, 3):
        with pytest.raises(ReadError, match="the disk is gone"):
            dataset.batch([(0, index) for index in range(9)], threads=threads)


def test_a_label_without_a_class_is_named(damaged):
    loader = load_batches(damaged, eval_batches(5, 5), workers=0)
    # Image 4 has label 0 and image 0 too: with no class at all the first is refused.
    with pytest.raises(ReadError, match=r"list.txt:1\): there is no label 0 among 0 classes"):
        list(checked(loader, damaged, 0, BadImages("skip", print)))
