import cv2
import numpy as np
import pytest
from data_nets import source
from support import genuine

from caffe2torch.errors import NetError, ReadError
from caffe2torch.images import ImageError

COUNT = 7


def image(number, height=6, width=9):
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Images 0 to 6 whose labels are ten times their numbers, but the last one's -1."""
    (tmp_path / "im ages").mkdir()
    lines = []
    for number in range(COUNT):
        cv2.imwrite(str(tmp_path / "im ages" / f"{number}.png"), image(number))
        lines.append(f"{number}.png {10 * number if number < 6 else -1}\n")
    (tmp_path / "list.txt").write_text("".join(lines) + "\n")
    return tmp_path


def images(folder, fields="", transform="", *, batch=3, root="im ages/", **options):
    text = f'source: "list.txt" root_folder: "{root}" batch_size: {batch} {fields}'
    text = f"transform_param {{ {transform} }} image_data_param {{ {text} }}"
    return source(text, kind="ImageData", folder=folder, **options)


def labels(opened, count):
    return [int(n) for index in range(count) for n in opened.batch(index)[1]]


def planes(number, **size):
    return image(number, **size).transpose(2, 0, 1).astype(np.float32)


def test_images_come_in_the_order_of_the_list_and_over_again(folder):
    opened = images(folder)
    assert opened.shapes == ((3, 3, 6, 9), (3,))
    assert labels(opened, 3) == [0, 10, 20, 30, 40, 50, -1, 0, 10]
    for number, got in enumerate(opened.batch(1)[0], 3):
        np.testing.assert_array_equal(got, planes(number))


def test_two_tops(folder):
    with pytest.raises(NetError, match="it has 1 tops; the type makes 2"):
        images(folder, tops=("data",))


def test_images_are_resized_with_bilinear_interpolation_before_the_cut(folder):
    opened = images(folder, "new_height: 5 new_width: 4", "crop_size: 3", phase="TEST")
    expected = cv2.resize(image(0), (4, 5), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(
        opened.batch(0)[0][0], expected[1:4, :3].transpose(2, 0, 1).astype(np.float32)
    )


def test_grey_images(folder):
    opened = images(folder, "is_color: false", "scale: 0.5")
    file = str(folder / "im ages" / "0.png")
    expected = cv2.imread(file, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 2
    assert opened.shapes[0] == (3, 1, 6, 9)
    np.testing.assert_array_equal(opened.batch(0)[0][0, 0], expected)


def test_shuffling_takes_every_image_once_a_pass(folder):
    opened = images(folder, "shuffle: true", batch=COUNT)
    passes = [tuple(opened.batch(k)[1].tolist()) for k in range(5)]
    assert len(set(passes)) == 5
    assert all(sorted(one) == [-1, 0, 10, 20, 30, 40, 50] for one in passes)
    assert tuple(images(folder, "shuffle: true", batch=COUNT).batch(3)[1].tolist()) == passes[3]


def test_a_random_start(folder):
    starts = {labels(images(folder, "rand_skip: 4", seed=n), 1)[0] for n in range(30)}
    assert starts == {0, 10, 20, 30}
    with pytest.raises(NetError, match=r"rand_skip: .* were to be skipped, but .* names 7"):
        images(folder, "rand_skip: 1000000")


@pytest.mark.parametrize("fields", ["", "shuffle: true rand_skip: 5"])
def test_processes_share_out_the_list(folder, fields):
    whole = labels(images(folder, fields, batch=6), 4)
    for rank in range(2):
        assert labels(images(folder, fields, rank=rank, world=2), 4) == whole[rank::2]


def test_images_of_several_sizes(folder):
    cv2.imwrite(str(folder / "im ages" / "1.png"), image(1, height=8))
    assert images(folder, batch=1).batch(1)[0].shape == (1, 3, 8, 9)
    assert images(folder, transform="crop_size: 5").batch(0)[0].shape == (3, 3, 5, 5)
    with pytest.raises(NetError, match=r"1\.png \(.*list.txt:2\) gives \(3, 8, 9\)"):
        images(folder).batch(0)


@pytest.mark.parametrize(
    ("fields", "field", "cause"),
    [
        ("new_height: 5", "image_data_param", "give both new_height and new_width, or none"),
        ('source: "nowhere"', "image_data_param.source", "cannot read the list 'nowhere'"),
        ('source: "empty.txt"', "image_data_param.source", "names no image; it is empty"),
        ("batch_size: 0", "image_data_param.batch_size", "must be positive"),
    ],
)
def test_what_caffe_refuses(folder, fields, field, cause):
    (folder / "empty.txt").write_text("\n")
    base = "" if "source" in fields else 'source: "list.txt"'
    text = f'image_data_param {{ root_folder: "im ages/" {base} {fields} }}'
    with pytest.raises(NetError, match=rf"layer 'data' \(ImageData\), {field}: .*{cause}"):
        source(text, kind="ImageData", folder=folder)


@pytest.mark.parametrize("line", ["1.png", "1.png x", "1.png 1.5", "1.png 3000000000", "7"])
def test_a_line_that_is_no_path_and_label(folder, line):
    (folder / "list.txt").write_text(f"0.png 0\n{line}\n")
    with pytest.raises(ReadError, match=r"list.txt:2: expected a path, a space and an integer"):
        images(folder)


def test_an_image_that_cannot_be_read(folder):
    (folder / "im ages" / "4.png").write_bytes(b"no image")
    opened = images(folder)
    with pytest.raises(ImageError, match=r"4\.png \(.*list.txt:5\): .*not an image"):
        opened.batch(1)
    with pytest.raises(ImageError, match=r"^im ages0\.png \(.*list.txt:1\): cannot read .*folder"):
        images(folder, root="im ages")


def test_a_real_list():
    folder = genuine("DATA", "imagenet_sample")
    root = next(folder.rglob("*.JPEG"), None) or next(folder.rglob("*.jpg"))
    text = f'source: "val_list.txt" root_folder: "{root.parent}/" batch_size: 2'
    text = f"image_data_param {{ {text} new_height: 64 new_width: 48 }}"
    opened = source(text, kind="ImageData", folder=folder)
    data, found = opened.batch(99)
    assert data.shape == (2, 3, 64, 48)
    lines = (folder / "val_list.txt").read_text().splitlines()
    assert found.tolist() == [int(line.split()[1]) for line in lines[198:200]]
