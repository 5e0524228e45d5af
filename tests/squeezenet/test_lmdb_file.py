"""LMDBs read without the lmdb library: the same records as it finds, and damage refused."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from caffe2torch.errors import ReadError
from squeezenet.lmdb_file import find_records, map_lmdb

BRANCH_LEAF = (b"\1\0", b"\2\0")
lmdb = pytest.importorskip("lmdb")


def write(path: Path, items: dict[bytes, bytes], deleted: int = 0) -> Path:
    with lmdb.open(str(path), map_size=1 << 26, subdir=False) as environment:
        with environment.begin(write=True) as transaction:
            for key, value in items.items():
                transaction.put(key, value)
        with environment.begin(write=True) as transaction:
            cursor = transaction.cursor()
            cursor.first()
            for _ in range(deleted):
                cursor.delete()
    return path


def records(path: Path) -> list[tuple[bytes, bytes]]:
    data = map_lmdb(path)
    found = find_records(data, path)
    return [
        (data[k : k + m], data[v : v + n])
        for k, m, v, n in zip(
            found.key_start.tolist(),
            found.key_size.tolist(),
            found.value_start.tolist(),
            found.value_size.tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize(("count", "deleted"), [(0, 0), (1, 0), (3000, 0), (3000, 700)])
def test_the_records_are_those_that_lmdb_finds(tmp_path: Path, count: int, deleted: int) -> None:
    rng = random.Random(count)
    items = {
        rng.randbytes(rng.randrange(1, 60)): rng.randbytes(rng.choice((0, 5, 200, 9000)))
        for _ in range(count)
    }
    path = write(tmp_path / "a.mdb", items, deleted)
    options = {"subdir": False, "readonly": True, "lock": False}
    with lmdb.open(str(path), **options) as environment, environment.begin() as transaction:
        expected = [(bytes(k), bytes(v)) for k, v in transaction.cursor()]
    assert len(expected) == len(items) - deleted
    assert records(path) == expected


def test_a_database_that_was_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mdb", {b"%d" % n: bytes(100) for n in range(500)})
    data = path.read_bytes()
    for length in (1, 100, 4096, 8192, 12288, len(data) // 2 & ~4095):
        (tmp_path / "b.mdb").write_bytes(data[:length])
        with pytest.raises(ReadError, match=r"cannot read the LMDB .*b\.mdb: .*(short|end|LMDB)"):
            records(tmp_path / "b.mdb")


def test_a_tree_that_leads_in_a_circle(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mdb", {b"%05d" % n: bytes(100) for n in range(500)})
    data = bytearray(path.read_bytes())
    root = struct.unpack_from("<Q", data, 4096 + 128)[0]
    page = root * 4096
    assert struct.unpack_from("<H", data, page + 10)[0] == 1
    node = page + struct.unpack_from("<H", data, page + 16)[0]
    struct.pack_into("<HHH", data, node, root, 0, 0)
    path.write_bytes(data)
    with pytest.raises(ReadError, match=f"page {root} is in its tree twice"):
        records(path)


def test_several_databases_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mdb"
    with lmdb.open(str(path), map_size=1 << 20, subdir=False, max_dbs=2) as environment:
        environment.open_db(b"inner")
    with pytest.raises(ReadError, match="several databases"):
        records(path)


def test_damage_is_refused_or_within_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mdb", {b"%05d" % n: bytes(n * 20) for n in range(300)})
    sound = path.read_bytes()
    tree = [at for at in range(8192, len(sound), 4096) if sound[at + 10 : at + 12] in BRANCH_LEAF]
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(rng.randrange(1, 4)):
            # Pages' heads and pointers, where a change matters most.
            at = rng.choice(tree) + rng.randrange(10, 160)
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, data[at] ^ 1 << rng.randrange(8)))
        path.unlink()
        path.write_bytes(data)
        try:
            read = records(path)
        except ReadError:
            refused += 1
        else:
            assert len(read) == 300
    assert 25 < refused < 400
