"""WindowData, against a sum that goes over Caffe's steps a pixel at a time."""

import cv2
import numpy as np
import pytest
import wire_bytes as w
from data_nets import source

from caffe2torch.errors import NetError, ReadError, UnsupportedLayerError
from caffe2torch.images import ImageError

HEIGHT, WIDTH, CROP = 20, 30, 8
FOREGROUND = [(3, 0.9, 4, 5, 12, 9), (5, 0.5, 0, 0, 29, 19)]
BACKGROUND = [(7, 0.1, 20, 3, 28, 18), (2, 0.29, 10, 10, 11, 19)]
NEITHER = [(1, 0.4, 1, 1, 5, 5)]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    blocks = []
    for number, boxes in enumerate((FOREGROUND[:1] + BACKGROUND[:1], [])):
        cv2.imwrite(
            str(tmp_path / f"{number}.png"), rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        )
        boxes = boxes or FOREGROUND[1:] + BACKGROUND[1:] + NEITHER
        lines = "\n".join(" ".join(map(str, box)) for box in boxes)
        blocks.append(f"# {number}\n{number}.png\n3\n{HEIGHT}\n{WIDTH}\n{len(boxes)}\n{lines}\n")
    (tmp_path / "windows.txt").write_text("".join(blocks))
    return tmp_path


def windows(folder, fields="", transform="", *, crop=CROP, **options):
    text = f'source: "windows.txt" root_folder: "{folder}/" batch_size: 8 '
    text += f"fg_threshold: 0.5 bg_threshold: 0.3 {fields}"
    text = f"transform_param {{ crop_size: {crop} {transform} }} window_data_param {{ {text} }}"
    return source(text, kind="WindowData", folder=folder, **options)


def half_up(value):
    return int(np.floor(abs(value) + 0.5) * np.sign(value))


def cut(image, box, pad, square, mirrored):
    """The window as uint8 (K, K, 3) and where it holds pixels, by Caffe's steps."""
    f = np.float32
    x1, y1, x2, y2 = box
    left = top = 0
    size = [CROP, CROP]
    if pad or square:
        scale = f(CROP) / f(CROP - 2 * pad)
        hh, hw = f(y2 - y1 + 1) / f(2), f(x2 - x1 + 1) / f(2)
        cx, cy = f(x1) + hw, f(y1) + hh
        if square:
            hh = hw = max(hh, hw)
        x1, x2 = half_up(cx - hw * scale), half_up(cx + hw * scale)
        y1, y2 = half_up(cy - hh * scale), half_up(cy + hh * scale)
        sx, sy = f(CROP) / f(x2 - x1 + 1), f(CROP) / f(y2 - y1 + 1)
        px1, py1 = max(0, -x1), max(0, -y1)
        px2, py2 = max(0, x2 - WIDTH + 1), max(0, y2 - HEIGHT + 1)
        x1, x2, y1, y2 = x1 + px1, x2 - px2, y1 + py1, y2 - py2
        size = [half_up(f(x2 - x1 + 1) * sx), half_up(f(y2 - y1 + 1) * sy)]
        left, top = half_up(f(px2 if mirrored else px1) * sx), half_up(f(py1) * sy)
        size = [min(size[0], CROP - left), min(size[1], CROP - top)]
    part = cv2.resize(image[y1 : y2 + 1, x1 : x2 + 1], tuple(size))
    if mirrored:
        part = cv2.flip(part, 1)
    out, inside = np.zeros((CROP, CROP, 3), np.float32), np.zeros((CROP, CROP), bool)
    out[top : top + size[1], left : left + size[0]] = part
    inside[top : top + size[1], left : left + size[0]] = True
    return out, inside


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("mean", ["", "values", "image"])
@pytest.mark.parametrize("fields", ["", "context_pad: 2", 'crop_mode: "square" context_pad: 1'])
def test_windows(folder, fields, mean, mirror):
    transform = "mirror: true " * mirror
    less = np.zeros((CROP, CROP, 3), np.float32)
    if mean == "values":
        transform += "mean_value: 104.5 mean_value: 117 mean_value: 0.1"
        less += np.float32([104.5, 117, 0.1])
    elif mean == "image":
        whole = np.random.default_rng(2).random((3, 13, 13)).astype("<f4")
        (folder / "mean").write_bytes(w.legacy(1, 3, 13, 13) + w.packed(5, whole.ravel()))
        transform += 'mean_file: "mean"'
        less = whole[:, 2 : 2 + CROP, 2 : 2 + CROP].transpose(1, 2, 0)
    opened = windows(folder, f"scale: 0.5 {fields}", transform, phase="TEST")
    assert opened.shapes == ((8, 3, CROP, CROP), (8,))
    pad = 2 if "pad: 2" in fields else "pad: 1" in fields
    files = [cv2.imread(str(folder / f"{number}.png")) for number in range(2)]
    seen = set()
    for index in range(12):
        images, labels = opened.batch(index)
        assert labels[:6].tolist() == [0] * 6  # fg_fraction is 0.25.
        for item, got in enumerate(images.numpy()):
            boxes = FOREGROUND if item >= 6 else BACKGROUND
            found = []
            for number, box in enumerate(boxes):
                for mirrored in (False, True)[: 1 + mirror]:
                    pixels, inside = cut(files[number], box[2:], pad, "square" in fields, mirrored)
                    expected = np.where(inside[:, :, None], (pixels - less) * np.float32(0.5), 0)
                    if np.array_equal(got, expected.transpose(2, 0, 1)):
                        found.append((item >= 6, number, mirrored))
                        assert labels[item] == (box[0] if item >= 6 else 0)
            assert len(found) == 1
            seen |= set(found)
    assert len(seen) == 4 * (1 + mirror)


def test_random_numbers_are_of_the_seed_and_the_batch(folder):
    batches = [windows(folder, seed=seed).batch(3)[0] for seed in (0, 0, 1)]
    assert np.array_equal(batches[0], batches[1])
    assert not np.array_equal(batches[0], batches[2])


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"crop": 0}, "transform_param.crop_size: must be positive"),
        ({"fields": "context_pad: 4"}, "4 pixels on each side leave nothing of a crop of 8"),
        ({"fields": "batch_size: 0"}, "batch_size: must be positive"),
        ({"fields": "fg_threshold: 2"}, "has no foreground window; correct"),
        ({"fields": "bg_threshold: 0"}, "has no background window; correct"),
        ({"fields": "fg_fraction: 1.5"}, "fg_fraction: is a part of a batch, from 0 to 1"),
        ({"fields": 'source: "nowhere"'}, "cannot read the window file 'nowhere'"),
        ({"transform": "mean_value: 1 mean_value: 2"}, "given 2 times for 3 channels"),
        ({"transform": 'mean_value: 1 mean_file: "m"'}, "both mean_file and mean_value"),
    ],
)
def test_what_caffe_refuses(folder, options, cause):
    with pytest.raises(NetError, match=rf"layer 'data' \(WindowData\), .*{cause}"):
        windows_last(folder, **options)


def test_a_field_of_a_fork(folder):
    with pytest.raises(UnsupportedLayerError, match=r"transform_param.crop_h: is of a fork"):
        windows(folder, transform="crop_h: 4")


def windows_last(folder, fields="", transform="", crop=CROP):
    """As ``windows``, where ``fields`` may repeat one that is given, and counts."""
    given = {"source": '"windows.txt"', "batch_size": "8", "fg_threshold": "0.5"}
    given |= {"bg_threshold": "0.3", "root_folder": f'"{folder}/"'}
    if fields:
        given |= [fields.split(": ", 1)]
    text = " ".join(f"{key}: {value}" for key, value in given.items())
    text = f"transform_param {{ crop_size: {crop} {transform} }} window_data_param {{ {text} }}"
    return source(text, kind="WindowData", folder=folder)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("# 1", "1", r"windows.txt:9: expected '#', found '1'"),
        ("\n3 0.9", "\nx 0.9", r"windows.txt:7: expected a class, found 'x'"),
        ("\n3 0.9", "\n0 0.9", r"windows.txt:7: the class of a foreground window is 0"),
        ("12 9", "3 9", r"windows.txt:7: the corners \[4, 5, 3, 9\]"),
        ("1.png\n3", "1.png\n1", "the last image has 1 channels"),
        ("# 1", "# 2", "there is no image 2 among 2"),
        ("1 0.4 1 1 5 5", "1", "the file ends before an overlap"),
    ],
)
def test_a_file_of_another_form(folder, old, new, cause):
    text = (folder / "windows.txt").read_text()
    (folder / "windows.txt").write_text(text.replace(old, new, 1))
    with pytest.raises(ReadError, match=cause):
        windows(folder)


def test_a_box_outside_of_its_image(folder):
    text = (folder / "windows.txt").read_text().replace("0 0 29 19", "0 0 30 19")
    (folder / "windows.txt").write_text(text)
    opened = windows(folder, "fg_fraction: 1")
    with pytest.raises(ImageError, match=r"windows.txt:\d+: the box .* is not inside of the image"):
        [opened.batch(index) for index in range(9)]
    (folder / "0.png").unlink()
    opened = windows(folder)
    with pytest.raises(ImageError, match=r"windows.txt:2: cannot read the image"):
        [opened.batch(index) for index in range(9)]
