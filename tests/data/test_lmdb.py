import pickle
import random
import sys

import cv2
import numpy as np
import pytest

from caffe2torch.data.lmdb import LmdbSource, is_lmdb
from caffe2torch.errors import ReadError
from caffe2torch.images import ImageError
from caffe2torch.io.schema import message_class
from caffe2torch.preprocessing import Preprocessing
from squeezenet.data import ImageDataset, eval_batches, load_batches
from squeezenet.preprocess import MEAN, Transform

lmdb = pytest.importorskip("lmdb")


def datum(**fields):
    return message_class("Datum")(**fields).SerializeToString()


def pixels(seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (channels, 5, 7), np.uint8)


def write(path, values):
    with lmdb.open(str(path), map_size=1 << 24) as environment, environment.begin(write=True) as t:
        for number, value in enumerate(values):
            t.put(f"{number:08d}".encode(), value)
    return path


def raw(image, label):
    channels, height, width = image.shape
    return datum(channels=channels, height=height, width=width, data=image.tobytes(), label=label)


def test_raw_grey_and_encoded_datums_are_read(tmp_path):
    colour, grey = pixels(1), pixels(2, channels=1)
    hwc = np.ascontiguousarray(pixels(3).transpose(1, 2, 0))
    encoded = cv2.imencode(".png", hwc)[1].tobytes()
    values = [raw(colour, 4), raw(grey, 0), datum(data=encoded, encoded=True, label=9)]
    path = write(tmp_path / "db", values)
    source = LmdbSource(path)
    assert is_lmdb(path)
    assert len(source) == 3
    for index, (expected, label) in enumerate(
        [
            (colour.transpose(1, 2, 0), 4),
            (np.repeat(grey.transpose(1, 2, 0), 3, axis=2), 0),
            (hwc, 9),
        ]
    ):
        got, found = source.read(index)
        np.testing.assert_array_equal(got, expected)
        assert found == label


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (datum(channels=3, height=5, width=7, data=b"short"), "holds 5 bytes .* needs 105"),
        (datum(channels=2, height=5, width=7, data=bytes(70)), "an image has 1 or 3 channels"),
        (datum(channels=3, data=b"x"), "an image has 1 or 3 channels"),
        (datum(data=b"no image", encoded=True), "not an image that OpenCV can decode"),
        (datum(channels=3, height=5, width=7, data=bytes(105), label=-1), "label -1 is negative"),
        (b"\x22\xff", "is not a Datum"),
    ],
)
def test_a_bad_datum_is_named_by_its_key(tmp_path, value, cause):
    source = LmdbSource(write(tmp_path / "db", [raw(pixels(), 1), value]))
    with pytest.raises(ImageError, match=f"key '00000001'.*{cause}"):
        source.read(1)


def test_a_datum_is_what_protobuf_reads(tmp_path):
    """Negative, repeated and unknown fields, whatever their order and wire type."""
    image = pixels(4)
    whole = raw(image, 5)
    later = datum(label=7) + b"\x28\xff\xff\xff\xff\x0f" + datum(label=3)  # The last one counts.
    unknown = (
        b"\x98\x06\x01" + b"\x2a\x02hi" + b"\x35\x00\x00\x80\x3f"
    )  # 99; label as bytes; a float.
    values = [later + whole, whole + later, unknown + whole, whole + unknown]
    source = LmdbSource(write(tmp_path / "db", values))
    for index, value in enumerate(values):
        expected = message_class("Datum")()
        expected.ParseFromString(value)
        got, label = source.read(index)
        np.testing.assert_array_equal(got, image.transpose(1, 2, 0))
        assert label == expected.label


def test_worker_processes_read_an_open_source(tmp_path):
    source = LmdbSource(write(tmp_path / "db", [raw(pixels(n), n) for n in range(7)]))
    source.read(0)
    dataset = ImageDataset(
        source, Transform(Preprocessing(resize=9, crop_size=8, mean=MEAN)), seed=None
    )
    labels = [b.labels for b in load_batches(dataset, eval_batches(7, 3), workers=2)]
    assert [n for part in labels for n in part.tolist()] == list(range(7))
    assert pickle.loads(pickle.dumps(source)).read(3)[1] == 3


def test_empty_and_damaged_databases_are_errors(tmp_path):
    with pytest.raises(ReadError, match="is empty"):
        LmdbSource(write(tmp_path / "empty", []))
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "data.mdb").write_bytes(b"x" * 8192)
    with pytest.raises(ReadError, match="cannot read the LMDB"):
        LmdbSource(folder)


@pytest.mark.parametrize(("count", "deleted"), [(1, 0), (3000, 0), (3000, 700)])
def test_records_come_in_the_order_of_their_keys(tmp_path, count, deleted):
    rng = random.Random(count)
    items = {rng.randbytes(rng.randrange(1, 60)): rng.randrange(1000) for _ in range(count)}
    with lmdb.open(str(tmp_path / "db"), map_size=1 << 26) as environment:
        with environment.begin(write=True) as transaction:
            for key, label in items.items():
                transaction.put(key, raw(pixels(), label))
        with environment.begin(write=True) as transaction:
            cursor = transaction.cursor()
            cursor.first()
            for _ in range(deleted):
                cursor.delete()
    source = LmdbSource(tmp_path / "db")
    assert len(source) == len(items) - deleted
    labels = [items[key] for key in sorted(items)][deleted:]
    assert [source.read(index)[1] for index in range(len(source))] == labels


def test_a_database_that_was_cut_short(tmp_path):
    write(tmp_path / "db", [raw(pixels(), n) for n in range(300)])
    data = (tmp_path / "db" / "data.mdb").read_bytes()
    for length in (1, 100, 4096, 8192, 12288, len(data) // 2 & ~4095, len(data) - 1):
        path = tmp_path / f"{length}.mdb"
        path.write_bytes(data[:length])
        with pytest.raises(ReadError, match=r"cannot read the LMDB .*\.mdb: .*(short|LMDB)"):
            LmdbSource(path)


def test_several_values_for_a_key(tmp_path):
    path = write(tmp_path / "db", [raw(pixels(), 1)]) / "data.mdb"
    data = bytearray(path.read_bytes())
    for page in (0, 4096):
        data[page + 92] |= 0x04  # MDB_DUPSORT of the main database.
    path.write_bytes(data)
    with pytest.raises(ReadError, match="several values for a key"):
        LmdbSource(tmp_path / "db")


def test_without_the_package(tmp_path, monkeypatch):
    path = write(tmp_path / "db", [raw(pixels(), 1)])
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ReadError, match=r'needs lmdb: pip install "caffe2torch\[lmdb\]"'):
        LmdbSource(path)
