import cv2
import numpy as np
import pytest
import wire_bytes as w
from data_nets import datum, pixels, source, write_lmdb
from support import genuine

from caffe2torch.data import open_source
from caffe2torch.errors import Caffe2TorchWarning, NetError, ReadError, UnsupportedLayerError
from caffe2torch.images import ImageError
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.io.schema import enum_name, message_class

pytest.importorskip("lmdb")

COUNT = 5
ROUNDING = 1e-6
"""Relative, of a loss that sums some hundred float32 products in another order than Caffe's."""


@pytest.fixture
def database(tmp_path):
    return write_lmdb(tmp_path / "db", [datum(pixels(n), label=n) for n in range(COUNT)])


def data(path, transform="", *, batch=2, fields="", **options):
    text = f'transform_param {{ {transform} }} data_param {{ source: "{path}" backend: LMDB '
    return source(f"{text} batch_size: {batch} {fields} }}", **options)


def test_items_come_in_order_and_begin_again(database):
    opened = data(database)
    assert opened.shapes == ((2, 3, 5, 7), (2,))
    batches = [opened.batch(k) for k in range(4)]
    assert [int(n) for _, labels in batches for n in labels] == [0, 1, 2, 3, 4, 0, 1, 2]
    images = np.concatenate([images for images, _ in batches])
    for place, image in enumerate(images):
        np.testing.assert_array_equal(image, pixels(place % COUNT))
    np.testing.assert_array_equal(opened.batch(1)[0], batches[1][0])
    assert data(database, tops=("data",)).batch(0)[0].shape == (2, 3, 5, 7)


def by_hand(image, top, left, crop, mean, scale, mirrored):
    """Caffe's sum, a number at a time."""
    out = np.empty((len(image), crop, crop), np.float32)
    for c, h, x in np.ndindex(out.shape):
        value = np.float32(image[c, top + h, left + x]) - np.float32(mean(c, top + h, left + x))
        out[c, h, crop - 1 - x if mirrored else x] = value * np.float32(scale)
    return out


@pytest.mark.parametrize("values", [[], [104.5], [104.5, 117.0, 0.1]])
def test_a_cut_of_the_middle_less_the_mean_values(database, values):
    text = " ".join(f"mean_value: {value}" for value in values)
    opened = data(database, f"crop_size: 2 scale: 0.017 {text}", phase="TEST")
    images, _ = opened.batch(0)
    mean = ([0] * 3 if not values else values * 3 if len(values) == 1 else values).__getitem__
    for n, image in enumerate(images):
        expected = by_hand(pixels(n), 1, 2, 2, lambda c, h, x: mean(c), 0.017, False)
        np.testing.assert_array_equal(image, expected)


def test_random_cuts_and_mirroring_less_the_mean_image(database, tmp_path):
    mean = np.random.default_rng(9).random((3, 5, 7)).astype("<f4") * 255
    (tmp_path / "mean.binaryproto").write_bytes(w.legacy(1, 3, 5, 7) + w.packed(5, mean.ravel()))
    text = f'crop_size: 4 mirror: true scale: 0.5 mean_file: "{tmp_path}/mean.binaryproto"'
    opened = data(database, text)
    seen = set()
    for index in range(60):
        for n, image in enumerate(opened.batch(index)[0]):
            raw = pixels((2 * index + n) % COUNT)
            cuts = [
                (top, left, mirrored)
                for top in range(2)
                for left in range(4)
                for mirrored in (False, True)
                if np.array_equal(
                    image,
                    by_hand(raw, top, left, 4, lambda c, h, x: mean[c, h, x], 0.5, mirrored),
                )
            ]
            assert len(cuts) == 1
            seen |= set(cuts)
    assert len(seen) == 16  # Of 120 draws among 16.


def test_mirroring_is_by_chance_in_the_test_phase_too(database):
    opened = data(database, "mirror: true", phase="TEST")
    first = [opened.batch(5 * k)[0][0].numpy() for k in range(20)]  # Item 0, at each pass.
    kinds = {image.tobytes() for image in first}
    expected = pixels(0).astype(np.float32)
    assert kinds == {expected.tobytes(), expected[:, :, ::-1].tobytes()}


def test_random_numbers_are_of_the_seed_and_the_position(database):
    text = "crop_size: 3 mirror: true"
    one, again, other = data(database, text), data(database, text), data(database, text, seed=1)
    np.testing.assert_array_equal(one.batch(7)[0], again.batch(7)[0])
    assert not np.array_equal(one.batch(7)[0], other.batch(7)[0])


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_out_the_stream_in_training(database, world):
    text = "crop_size: 3 mirror: true"
    whole = data(database, text, batch=2 * world)
    parts = [data(database, text, rank=rank, world=world) for rank in range(world)]
    for index in range(4):
        for top in range(2):
            expected = whole.batch(index)[top].numpy()
            for rank, part in enumerate(parts):
                np.testing.assert_array_equal(part.batch(index)[top], expected[rank::world])
    tests = [data(database, phase="TEST", rank=rank, world=world) for rank in range(world)]
    for part in tests:
        np.testing.assert_array_equal(part.batch(1)[1], [2, 3])


def test_a_phase_of_the_layers_own_wins(database):
    fields = f'data_param {{ source: "{database}" backend: LMDB batch_size: 2 }}'
    opened = source(f"phase: TEST transform_param {{ crop_size: 2 }} {fields}", "TRAIN", rank=1)
    np.testing.assert_array_equal(opened.batch(0)[0][0], pixels(0)[:, 1:3, 2:4])


def test_floats_and_encoded_images(tmp_path):
    floats = np.random.default_rng(4).normal(size=(4, 2, 3)).astype(np.float32)
    opened = data(write_lmdb(tmp_path / "f", [datum(floats, label=-1)]), "scale: 3", batch=1)
    np.testing.assert_array_equal(opened.batch(0)[0][0], floats * np.float32(3))
    assert opened.batch(0)[1].tolist() == [-1]

    colour, grey = pixels(1), pixels(2, (1, 5, 7))
    files = [
        cv2.imencode(".png", np.ascontiguousarray(image.transpose(1, 2, 0)))[1].tobytes()
        for image in (colour, grey)
    ]
    for name, file, force, expected in [
        ("colour", files[0], "", colour),
        ("grey", files[1], "", grey),
        ("force_color", files[1], "force_color: true", np.repeat(grey, 3, axis=0)),
    ]:
        path = write_lmdb(tmp_path / name, [datum(encoded=True, data=file)])
        np.testing.assert_array_equal(data(path, force, batch=1).batch(0)[0][0], expected)
    path = write_lmdb(tmp_path / "force_gray", [datum(encoded=True, data=files[0])])
    assert data(path, "force_gray: true", batch=1).shapes[0] == (1, 1, 5, 7)
    with pytest.raises(NetError, match="both force_color and force_gray"):
        data(path, "force_gray: true force_color: true")


def test_the_first_item_gives_a_batch_its_shape(tmp_path):
    sizes = [(3, 5, 7), (3, 5, 7), (3, 6, 4), (3, 6, 4), (3, 6, 4), (3, 5, 7)]
    path = write_lmdb(tmp_path / "db", [datum(pixels(0, size)) for size in sizes])
    opened = data(path)
    assert opened.batch(1)[0].shape == (2, 3, 6, 4)
    message = (
        r"layer 'data' \(Data\): .*key '00000005'.* gives \(3, 5, 7\).*'00000004'.*\(3, 6, 4\)"
    )
    with pytest.raises(NetError, match=message):
        opened.batch(2)
    assert data(path, "crop_size: 4").batch(2)[0].shape == (2, 3, 4, 4)


@pytest.mark.parametrize(
    ("transform", "cause"),
    [
        ("crop_size: 6", "6 pixels cannot be cut out of .*key '00000000'.*, which is 7 x 5"),
        ("mean_value: 1 mean_value: 2", "is given 2 times for 3 channels"),
        ('mean_value: 1 mean_file: "m"', "both mean_file and mean_value"),
        ('mean_file: "nowhere"', "mean_file: there is no file nowhere"),
        ('mean_file: "mean.binaryproto"', r"mean image is \(3, 5, 5\).* and .* is \(3, 5, 7\)"),
    ],
)
def test_what_caffe_refuses(database, transform, cause, tmp_path):
    mean = np.zeros(75, "<f4")
    (tmp_path / "mean.binaryproto").write_bytes(w.legacy(1, 3, 5, 5) + w.packed(5, mean))
    with pytest.raises(NetError, match=rf"layer 'data' \(Data\), transform_param.*{cause}"):
        data(database, transform, folder=tmp_path)


def test_fields_of_forks_and_fields_without_effect(database):
    with pytest.raises(UnsupportedLayerError, match=r"transform_param.crop_h: is of a fork"):
        data(database, "crop_h: 3")
    with pytest.warns(Caffe2TorchWarning, match=r"does not read data_param.rand_skip, d"):
        opened = data(database, fields="rand_skip: 3 scale: 2")
    np.testing.assert_array_equal(opened.batch(0)[0][0], pixels(0))


def test_databases_that_cannot_be_used(tmp_path, database):
    with pytest.raises(NetError, match=r"data_param.source: there is no database .*nowhere"):
        data("nowhere", folder=tmp_path)
    with pytest.raises(NetError, match=r"data_param.batch_size: must be positive"):
        data(database, batch=0)
    with pytest.raises(NetError, match=r"it is LEVELDB .*write backend: LMDB"):
        source(f'data_param {{ source: "{database}" batch_size: 1 }}')
    level = tmp_path / "level"
    level.mkdir()
    (level / "CURRENT").write_text("MANIFEST-000001\n")
    (level / "MANIFEST-000001").write_bytes(b"")
    with pytest.raises(ReadError, match=r"'data' \(Data\), data_param.source: .* is a LevelDB"):
        data(level)
    short = write_lmdb(tmp_path / "short", [datum(channels=3, height=5, width=7, data=b"123")])
    with pytest.raises(ImageError, match=r"key '00000000' holds 3 values, .* needs 105"):
        data(short)
    broken = write_lmdb(tmp_path / "broken", [datum(encoded=True, data=b"123")])
    with pytest.raises(ImageError, match=r"key '00000000' is not an image"):
        data(broken)


def test_the_losses_that_caffe_recorded(monkeypatch):
    import torch
    from torch.nn import functional

    folder = genuine("SHARED", "train", "lmdb_scale_mean")
    weights = message_class("NetParameter").FromString((folder / "init.caffemodel").read_bytes())
    blobs = {
        one.name: [torch.tensor(b.data).reshape(tuple(b.shape.dim)) for b in one.blobs]
        for one in weights.layer
    }
    expected = np.load(folder / "expected.npz")
    layers = read_prototxt(folder / "net.prototxt").layer[:2]
    for proto, key in zip(layers, ("loss", "test/0/loss"), strict=True):
        opened = open_source(proto, enum_name(proto.include[0], "phase"), folder=folder)
        images, labels = opened.batch(0)
        hidden = functional.relu(functional.conv2d(images, *blobs["conv1"]))
        hidden = functional.max_pool2d(hidden, 2, ceil_mode=True)
        scores = functional.linear(hidden.flatten(1), *blobs["ip2"])
        loss = functional.cross_entropy(scores, labels.long()).item()
        assert loss == pytest.approx(expected[key].flat[0], rel=ROUNDING)
