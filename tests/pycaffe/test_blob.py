"""Blobs and vectors of them against what genuine pycaffe does: arrays that live on."""

from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
from pycaffe_nets import CHAIN, filled, made

import caffe2torch.pycaffe as caffe


def test_arrays_are_live_before_and_after_passes(tmp_path: Path) -> None:
    net = filled(made(tmp_path, CHAIN))
    held = net.blobs["fc"].data
    first = net.forward()["fc"]
    assert first is not held
    assert np.shares_memory(first, held)
    assert held.any()
    before = held.copy()
    net.blobs["data"].data[...] *= 2
    net.forward()
    assert (held != before).any()
    assert (held == net.blobs["fc"].data).all()
    net.blobs["c"].data[...] = 0.25
    assert (net.blobs["b"].data == 0.25).all()
    assert (net.blobs["c_r_0_split_1"].data == 0.25).all()
    net.params["fc"][0].data[...] = 1
    net.params["fc"][1].data[...] = 0
    fc = net.forward(start="fc")["fc"]
    assert np.allclose(fc, net.blobs["b"].data.sum(1, keepdims=True))
    del net
    gc.collect()
    assert held.sum() == fc.sum()


def test_blobs(tmp_path: Path) -> None:
    net = filled(made(tmp_path, CHAIN))
    blob = net.blobs["fc"]
    assert list(blob.shape) == [2, 6]
    assert blob.shape[-1] == 6
    assert blob.count == 12
    assert (blob.num, blob.channels, blob.height, blob.width) == (2, 6, 1, 1)
    for name, value in (("data", 1), ("diff", 1), ("shape", (1,)), ("count", 1)):
        with pytest.raises(AttributeError):
            setattr(blob, name, value)
    with pytest.raises(ValueError, match="broadcast"):
        blob.data[...] = np.zeros((3, 5))
    with pytest.raises(RuntimeError):
        type(blob)()
    blob.data[...] = np.arange(12).reshape(2, 6)
    held = blob.data
    blob.reshape(1, 4)
    assert blob.data.tolist() == [[0, 1, 2, 3]]
    assert np.shares_memory(blob.data, held)
    blob.reshape(np.int64(2), 6)
    assert (blob.data == held).all()
    blob.reshape(13)
    assert not blob.data.any()
    assert held[1, 5] == 11
    blob.reshape()
    assert blob.data.shape == ()
    assert blob.count == 1
    blob.reshape(0, 3)
    assert blob.data.size == 0
    blob.reshape(1, 1, 1, 1, 2)
    for bad in (lambda: blob.reshape(num=2), lambda: blob.reshape(-1), lambda: blob.num):
        with pytest.raises(RuntimeError):
            bad()
    for bad in (lambda: blob.reshape([2, 5]), lambda: blob.reshape(2.0)):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            bad()


def test_vectors_of_blobs(tmp_path: Path) -> None:
    vector = made(tmp_path, CHAIN).params["fc"]
    assert len(vector) == 2
    assert vector[-1] is vector[1]
    assert vector[0] in vector
    vector.add_blob(2, 3)
    assert list(vector[2].shape) == [2, 3]
    assert not vector[2].data.any()
    vector[0], vector[1] = vector[1], vector[0]
    vector.append(vector[0])
    vector.extend(vector[:1])
    assert len(vector) == 5
    with pytest.raises(IndexError):
        vector[5]


def test_batch_norm_keeps_its_statistics_in_caffes_blobs(tmp_path: Path) -> None:
    text = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 8 dim: 3 } } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y"
  batch_norm_param { moving_average_fraction: 0.5 } }
"""
    net = filled(made(tmp_path, text, caffe.TRAIN))
    x = net.blobs["x"].data
    net.forward()
    mean, variance, factor = (blob.data for blob in net.params["bn"])
    assert np.allclose(mean, x.mean(0), atol=1e-6)
    assert factor == 1
    net.forward()
    assert np.allclose(mean, 1.5 * x.mean(0), atol=1e-6)
    assert factor == 1.5
    assert np.allclose(variance, 1.5 * x.var(0, ddof=1), rtol=1e-5)
    deploy = made(tmp_path, text)
    deploy.share_with(net)
    mean[...], variance[...], factor[...] = 4, 2, 2
    deploy.blobs["x"].data[...] = 3
    assert np.allclose(deploy.forward()["y"], 1, atol=1e-4)


def test_constant_dummy_data_is_filled_once(tmp_path: Path) -> None:
    text = """
layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 }
  data_filler { type: "constant" value: 4 } } }
layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 } }
"""
    net = made(tmp_path, text)
    assert (net.forward()["y"] == 8).all()
    assert net.inputs == []
    net.blobs["x"].data[...] = 1
    assert (net.forward()["y"] == 2).all()


def test_statistics_that_a_layer_does_not_change_keep_every_bit(tmp_path: Path) -> None:
    text = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 8 dim: 30 } } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y"
  batch_norm_param { use_global_stats: true } }
"""
    net = filled(made(tmp_path, text, caffe.TRAIN))
    rng = np.random.RandomState(9)
    for blob in net.params["bn"]:
        blob.data[...] = rng.uniform(1, 2, blob.shape)
    before = [blob.data.copy() for blob in net.params["bn"]]
    for _ in range(3):
        net.forward()
    after = [blob.data for blob in net.params["bn"]]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_a_blob_of_one_value_is_that_number(tmp_path: Path) -> None:
    text = 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 } } }'
    net = made(tmp_path, text)
    x = net.blobs["x"].data
    x[...] = 2.5
    losses = np.zeros(2)
    losses[1] = x
    assert (losses == [0, 2.5]).all()
    assert (float(x), int(x[0]), repr(x)) == (2.5, 2, repr(np.asarray(x)))
    x += 1
    x *= 2
    assert net.blobs["x"].data == 7
    # What is computed from it is an array or a number of NumPy's.
    assert type(x + 1) is np.ndarray
    assert type(x[0, 0]) is type(x.sum()) is np.float32
    assert type(pickle.loads(pickle.dumps(x))) is np.ndarray
    net.blobs["x"].reshape()
    assert round(net.blobs["x"].data + 0.25, 1) == np.float32(7.2)
    net.blobs["x"].reshape(3)
    with pytest.raises(TypeError, match=r"shape \(3,\) is no single number"):
        float(net.blobs["x"].data)
