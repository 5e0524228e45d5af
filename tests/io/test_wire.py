from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wire_bytes as w

from caffe2torch.errors import ReadError
from caffe2torch.io import caffemodel
from caffe2torch.io.blob import Blob
from caffe2torch.io.caffemodel import read_caffemodel, walk

VALUES = np.arange(6, dtype="<f4") * 0.5 - 1


def read_one(*parts: bytes) -> Blob:
    net, blobs = walk(w.layer("c", b"".join(parts)), "net.caffemodel")
    assert [layer.name for layer in net.layer] == ["c"]
    ((blob,),) = blobs
    return blob


def error_of(data: bytes) -> str:
    with pytest.raises(ReadError) as caught:
        walk(data, "net.caffemodel")
    return str(caught.value)


def blob_error(*parts: bytes) -> str:
    return error_of(w.layer("c", b"".join(parts)))


@pytest.mark.parametrize(
    "data",
    [
        w.packed(5, VALUES),
        w.unpacked(5, VALUES),
        w.packed(5, VALUES[:2]) + w.packed(5, []) + w.packed(5, VALUES[2:]),
        w.packed(5, VALUES[:2]) + w.unpacked(5, VALUES[2:5]) + w.packed(5, VALUES[5:]),
        w.unpacked(5, VALUES[:1]) + w.packed(5, VALUES[1:]),
        w.packed(5, VALUES) + w.packed(6, VALUES * 7) + w.packed(9, VALUES, "d"),
        w.unpacked(6, VALUES * 7) + w.unpacked(5, VALUES) + w.unpacked(9, VALUES, "d"),
        w.message(12, VALUES.tobytes()) + w.number(10, 1),
        w.number(10, 1) + w.message(12, VALUES.tobytes()) + w.packed(5, [9, 9]),
    ],
)
def test_float_encodings(data: bytes) -> None:
    blob = read_one(w.shape(2, 3), data)
    assert blob.data.dtype == np.dtype("<f4")
    assert blob.data.tobytes() == VALUES.tobytes()
    assert (blob.shape, blob.legacy) == ((2, 3), False)
    assert not blob.data.flags.writeable


@pytest.mark.parametrize("data", [w.packed(8, VALUES, "d"), w.unpacked(8, VALUES, "d")])
def test_double_data_wins_over_data(data: bytes) -> None:
    for parts in ([data], [data, w.packed(5, [9, 9])], [w.packed(5, [9, 9]), data]):
        blob = read_one(w.shape(6), *parts)
        assert blob.data.dtype == np.dtype("<f8")
        assert blob.data.tolist() == VALUES.tolist()


def test_empty_double_data_does_not_win() -> None:
    blob = read_one(w.shape(6), w.packed(8, [], "d"), w.packed(5, VALUES))
    assert blob.data.tolist() == VALUES.tolist()


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f8"), (1, "<f4"), (2, "<f2")])
def test_raw_data(kind: int, dtype: str) -> None:
    blob = read_one(w.shape(6), w.number(10, kind), w.message(12, VALUES.astype(dtype).tobytes()))
    assert blob.data.dtype == np.dtype(dtype)
    assert blob.data.tolist() == VALUES.tolist()


@pytest.mark.parametrize(("kind", "name"), [(3, "INT (3)"), (4, "UINT (4)"), (9, "unknown (9)")])
def test_raw_data_of_another_type_is_refused(kind: int, name: str) -> None:
    message = blob_error(w.shape(6), w.number(10, kind), w.message(12, VALUES.tobytes()))
    assert "layer 'c' (number 0), blob 0 has raw_data of the type " + name in message
    assert "FLOAT16, FLOAT and DOUBLE" in message


def test_raw_data_without_type_is_refused() -> None:
    assert "of the type none" in blob_error(w.shape(6), w.message(12, VALUES.tobytes()))


def test_one_piece_is_a_view_and_several_are_not() -> None:
    data = w.layer("c", w.shape(6) + w.packed(5, VALUES))
    for bytes_read, is_view in ((data, True), (w.layer("c", w.unpacked(5, [1])), False)):
        blob = walk(bytes_read, "x")[1][0][0]
        start = np.frombuffer(bytes_read, np.uint8).__array_interface__["data"][0]
        inside = start <= blob.data.__array_interface__["data"][0] < start + len(bytes_read)
        assert inside is is_view


def test_legacy_dims_win_as_in_caffe() -> None:
    blob = read_one(w.legacy(1, 2, 1, 3), w.packed(5, VALUES), w.shape(6))
    assert (blob.shape, blob.legacy) == ((1, 2, 1, 3), True)


def test_missing_legacy_dim_is_zero() -> None:
    assert read_one(w.number(1, 5)).shape == (5, 0, 0, 0)


def test_scalar_and_empty() -> None:
    assert read_one(w.packed(5, [2.5])).shape == ()
    assert read_one(w.shape(), w.packed(5, [2.5])).shape == ()
    empty = read_one(w.shape(0, 3))
    assert (empty.shape, empty.data.size) == ((0, 3), 0)


def test_shape_unpacked_and_in_parts() -> None:
    parts = w.message(7, w.number(1, 2)) + w.message(7, w.number(1, 3), w.number(99, 1))
    assert read_one(parts, w.packed(5, VALUES)).shape == (2, 3)


def test_long_run_of_unpacked_values() -> None:
    values = np.random.default_rng(0).standard_normal(20011).astype("<f4")
    data = w.unpacked(5, values[:7001]) + w.unpacked(6, values) + w.unpacked(5, values[7001:])
    assert read_one(w.shape(20011), data).data.tobytes() == values.tobytes()


def test_values_that_look_like_tags() -> None:
    values = np.frombuffer(b"\x2d" * 4 * 9, "<f4")
    assert read_one(w.unpacked(5, values), w.shape(9)).data.tobytes() == values.tobytes()


def test_overlong_tag_is_read_as_protobuf_does() -> None:
    overlong = b"\xad\x00" + VALUES[:1].tobytes()
    blob = read_one(w.shape(2), overlong, w.unpacked(5, VALUES[1:2]))
    assert blob.data.tolist() == VALUES[:2].tolist()


@pytest.mark.parametrize(
    "unknown",
    [
        w.number(2000, 1 << 63),
        w.tag(2000, 1) + bytes(8),
        w.message(2000, b"\xff" * 9),
        w.tag(2000, 3) + w.number(1, 1) + w.tag(3, 3) + w.tag(3, 4) + w.tag(2000, 4),
        w.tag(2000, 5) + bytes(4),
        w.number(5, 3),
    ],
)
def test_unknown_fields_are_skipped_at_each_level(unknown: bytes) -> None:
    blob = unknown + w.shape(6) + unknown + w.packed(5, VALUES) + unknown
    data = unknown + w.layer("c", blob, extra=unknown) + unknown
    net, blobs = walk(data, "x")
    assert net.layer[0].type == "Convolution"
    assert blobs[0][0].data.tolist() == VALUES.tolist()


def test_order_of_fields_does_not_matter() -> None:
    blob = w.packed(5, VALUES) + w.shape(6)
    data = w.message(100, w.message(7, blob), w.text(2, "ReLU"), w.text(1, "r")) + w.text(1, "n")
    net, blobs = walk(data, "x")
    assert (net.name, net.layer[0].name, net.layer[0].type) == ("n", "r", "ReLU")
    assert blobs[0][0].shape == (6,)


def test_v1_and_v0_layers() -> None:
    blob = w.legacy(1, 1, 2, 3) + w.packed(5, VALUES)
    v1 = w.message(2, w.text(4, "a"), w.number(5, 4), w.message(6, blob), w.text(2, "data"))
    v0 = w.message(
        2,
        w.message(1, w.text(1, "b"), w.text(2, "conv"), w.message(50, blob)),
        w.text(3, "top"),
        w.message(1, w.message(50, blob), w.number(3, 7)),
    )
    net, blobs = walk(v1 + v0, "x")
    assert [len(layer) for layer in blobs] == [1, 2]
    assert (net.layers[0].name, list(net.layers[0].bottom)) == ("a", ["data"])
    assert (net.layers[1].layer.name, net.layers[1].layer.num_output) == ("b", 7)
    assert not net.layers[0].blobs
    assert not net.layers[1].layer.blobs
    assert blobs[1][1].data.tolist() == VALUES.tolist()


def test_both_formats_at_once_are_refused() -> None:
    message = error_of(w.layer("a") + w.message(2, w.text(4, "b")))
    assert "layers of two formats ('layer' and 'layers')" in message


def test_file_cannot_set_the_notes() -> None:
    note, place = w.message(500_000_001, w.text(2, "hi")), w.text(500_000_002, "there")
    net, _ = walk(w.layer("a", extra=note + place) + note + place, "x")
    assert (list(net.unknown_field), net.place, net.layer[0].place) == ([], "", "")
    assert [f.number for f in net.layer[0].unknown_field] == [500_000_001, 500_000_002]


@pytest.mark.parametrize(
    ("blob", "cause"),
    [
        (w.shape(7) + w.packed(5, VALUES), "shape (7,), which is 7 values, but holds 6"),
        (w.shape(2, 3), "shape (2, 3), which is 6 values, but holds 0"),
        (w.packed(5, VALUES), "shape (), which is 1 values, but holds 6"),
        (w.shape(-2, -3) + w.packed(5, VALUES), "impossible shape (-2, -3)"),
        (w.legacy(-1, 2, 3, 4), "impossible shape (-1, 2, 3, 4)"),
        (w.shape(1 << 40, 0), "impossible shape"),
        (w.shape(*[1 << 30] * 8) + w.packed(5, VALUES), "values, but holds 6"),
        (w.shape(*[1] * 33) + w.packed(5, [1]), "more than 32 axes"),
        (w.message(7, *[w.number(1, 1)] * 33) + w.packed(5, [1]), "more than 32 axes"),
        (w.message(5, b"12345"), "does not hold whole 4-byte numbers"),
        (w.message(8, b"12345"), "does not hold whole 8-byte numbers"),
    ],
)
def test_bad_blobs(blob: bytes, cause: str) -> None:
    assert cause in blob_error(blob)


def test_error_names_layer_blob_and_offset() -> None:
    good = w.shape(6) + w.packed(5, VALUES)
    message = error_of(w.layer("first", good) + w.layer("second", good, w.shape(2)))
    assert message.startswith("net.caffemodel: at byte ")
    assert "layer 'second' (number 1), blob 1 has the shape (2,)" in message


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (w.tag(100, 2) + w.varint(1 << 62), "past the end of its message"),
        (w.tag(100, 2) + b"\x05abc", "2 bytes past the end"),
        (w.message(100, w.tag(7, 2) + b"\x09"), "9 bytes past the end"),
        (w.message(100, w.message(7, w.tag(5, 2) + b"\x04")), "4 bytes past the end"),
        (b"\x80" * 12, "more than 10 bytes"),
        (w.tag(9, 0) + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (b"\x80\x80", "ends inside a number"),
        (b"\x00\x01", "field number 0"),
        (w.varint(1 << 34), "field number"),
        (w.tag(9, 4), "wire type 4"),
        (w.tag(9, 6), "wire type 6"),
        (w.tag(9, 7), "wire type 7"),
        (w.tag(9, 3), "ends inside a number"),
        (w.tag(9, 3) + w.tag(8, 4), "the end of another group"),
        (w.tag(9, 3) * 1000, "nested too deeply"),
        (w.tag(9, 5) + b"abc", "1 bytes past the end"),
        (w.tag(9, 1) + b"abc", "5 bytes past the end"),
        (w.message(100, w.message(8, b"\xff")), "the net is not readable"),
        (w.message(100, w.message(1, b"\xff")), "not UTF-8 text"),
        (w.text(1, "n"), "holds no layers"),
    ],
)
def test_corrupt_bytes(data: bytes, cause: str) -> None:
    # A field with control characters first, so that no file looks like text.
    assert cause in error_of(w.message(999, b"\x01") + data)


@pytest.mark.parametrize(
    ("limit", "data", "cause"),
    [
        ("caffemodel._MAX_LAYERS", w.layer("a") * 21, "more than 20 layers"),
        ("caffemodel._MAX_BLOBS", w.layer("a", *[w.shape(0)] * 21), "more than 20 blobs"),
        (
            "caffemodel._MAX_REST",
            w.layer("a", extra=w.text(3, "bottom") * 9),
            "that is not weights",
        ),
        (
            "caffemodel._MAX_REST",
            w.layer("a", extra=w.text(3000, "?" * 30), type="BN"),
            "not weights",
        ),
        ("fields._MAX_FIELDS", w.number(9, 1) * 21, "more than 20 fields"),
    ],
)
def test_what_a_file_can_cost_is_bounded(
    limit: str, data: bytes, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"caffe2torch.io.{limit}", 20)
    assert cause in error_of(w.message(999, b"\x01") + data)


def test_file_is_memory_mapped_and_outlives_its_name(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(w.layer("c", w.shape(6) + w.packed(5, VALUES)))
    blobs = read_caffemodel(path).blobs
    path.unlink()
    assert blobs[0][0].data.tolist() == VALUES.tolist()


def test_file_that_grows_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(w.layer("c"))
    parse = caffemodel.check_text

    def append(*args: object) -> None:
        parse(*args)
        with path.open("ab") as file:
            file.write(w.layer("d"))

    monkeypatch.setattr(caffemodel, "check_text", append)
    with pytest.raises(ReadError, match="the file changed while it was read"):
        read_caffemodel(path)
