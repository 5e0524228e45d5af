import itertools

import numpy as np
import pytest
from data_nets import source
from support import genuine

from caffe2torch.data import open_source
from caffe2torch.errors import NetError, ReadError
from caffe2torch.io.prototxt import read_prototxt

h5py = pytest.importorskip("h5py")

ROWS = (3, 1, 5)


@pytest.fixture
def folder(tmp_path):
    """Files of 3, 1 and 5 rows, numbered from 0 to 8, and their list."""
    start = 0
    for number, rows in enumerate(ROWS):
        ids = np.arange(start, start + rows)
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["data"] = np.broadcast_to(ids[:, None, None] + 0.5, (rows, 2, 3)).astype("f8")
            file["label"] = ids.astype("i8")
        start += rows
    (tmp_path / "list.txt").write_text("0.h5 1.h5\n2.h5\n")
    return tmp_path


def hdf5(folder, fields="", *, batch=4, listing="list.txt", **options):
    text = f'hdf5_data_param {{ source: "{listing}" batch_size: {batch} {fields} }}'
    return source(text, kind="HDF5Data", folder=folder, **options)


def labels(opened, count):
    return [int(n) for index in range(count) for n in opened.batch(index)[1]]


def test_rows_come_from_file_to_file_and_over_again(folder):
    opened = hdf5(folder)
    assert opened.shapes == ((4, 2, 3), (4,))
    assert labels(opened, 5) == [n % 9 for n in range(20)]
    data, ids = opened.batch(2)
    np.testing.assert_array_equal(data, np.broadcast_to(ids[:, None, None] + 0.5, (4, 2, 3)))
    assert labels(opened, 2) == list(range(8))


def test_tops_are_datasets_by_name(folder):
    (ids,) = hdf5(folder, tops=("label",)).batch(0)
    assert ids.tolist() == [0, 1, 2, 3]


def test_shuffling_takes_every_row_once_a_pass(folder):
    opened = hdf5(folder, "shuffle: true", batch=9)
    passes = [labels_of.tolist() for labels_of in (opened.batch(k)[1] for k in range(6))]
    assert all(sorted(one) == list(range(9)) for one in passes)
    assert len({tuple(one) for one in passes}) == 6
    for one in passes:  # A file's rows stay together.
        files = [int(np.searchsorted(np.cumsum(ROWS), n, side="right")) for n in one]
        assert sum(a != b for a, b in itertools.pairwise(files)) == 2
    again = hdf5(folder, "shuffle: true", batch=9)
    assert again.batch(5)[1].tolist() == passes[5]
    assert hdf5(folder, "shuffle: true", batch=9, seed=1).batch(5)[1].tolist() != passes[5]


@pytest.mark.parametrize("fields", ["", "shuffle: true"])
def test_processes_share_out_the_rows(folder, fields):
    whole = labels(hdf5(folder, fields, batch=8), 4)
    for rank in range(2):
        assert labels(hdf5(folder, fields, rank=rank, world=2), 4) == whole[rank::2]


def test_what_caffe_refuses(folder):
    (folder / "empty.txt").write_text(" \n")
    (folder / "lost.txt").write_text("0.h5\nlost.h5")
    for listing, cause in [
        ("nowhere.txt", r"cannot read the list of HDF5 files 'nowhere.txt' \(from the current"),
        ("empty.txt", "names no HDF5 file; it is empty"),
        ("lost.txt", r"names 'lost.h5', which does not exist"),
    ]:
        with pytest.raises(
            NetError, match=rf"'data' \(HDF5Data\), hdf5_data_param.source: .*{cause}"
        ):
            hdf5(folder, listing=listing)
    with pytest.raises(NetError, match="batch_size: must be positive"):
        hdf5(folder, batch=0)
    text = 'transform_param { scale: 2 } hdf5_data_param { source: "list.txt" batch_size: 1 }'
    with pytest.raises(NetError, match="transform_param: the type does not transform data"):
        source(text, kind="HDF5Data", folder=folder)


@pytest.mark.parametrize(
    ("label", "cause"),
    [
        (None, "is not in the file, which has data"),
        (np.zeros(4), "has 4 rows, 'data' 3"),
        (np.zeros((3, 2)), r"has rows of \(2,\), .*0.h5 of \(\)"),
        (np.array([b"a", b"b", b"c"]), r"holds \|S1, not numbers"),
        (np.zeros(3, bool), "holds bool, not numbers"),
        (np.float32(1), r"has the shape \(\): no rows"),
    ],
)
def test_a_dataset_that_cannot_be_used(folder, label, cause):
    with h5py.File(folder / "x.h5", "w") as file:
        file["data"] = np.zeros((3, 2, 3))
        if label is not None:
            file["label"] = label
    (folder / "list.txt").write_text("0.h5 x.h5")
    with pytest.raises(ReadError, match=rf"layer 'data' \(HDF5Data\): .*x.h5: .*'label' {cause}"):
        hdf5(folder)


def test_a_file_of_another_kind(folder):
    (folder / "2.h5").write_bytes(b"no HDF5")
    with pytest.raises(ReadError, match=r"cannot read the HDF5 file .*2\.h5"):
        hdf5(folder)


def test_the_arrays_of_a_training_case():
    folder = genuine("SHARED", "train", "lstm_adam_cont")
    proto = read_prototxt(folder / "net.prototxt").layer[0]
    opened = open_source(proto, "TRAIN", folder=folder)
    with h5py.File(folder / "train.h5") as file:
        for name, array in zip(proto.top, opened.batch(1), strict=True):
            np.testing.assert_array_equal(array, file[name][4:8].astype(np.float32))
