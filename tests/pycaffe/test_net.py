"""Net against what genuine pycaffe does, name by name."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pycaffe_nets import CHAIN, filled, made

import caffe2torch.pycaffe as caffe
from caffe2torch.io.schema import message_class

LOSSES = """
layer { name: "in" type: "Input" top: "x" top: "y"
  input_param { shape { dim: 3 dim: 4 } shape { dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param {
  num_output: 5 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "y" top: "loss" loss_weight: 0.5 }
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "y" top: "acc" }
"""


def test_names_of_blobs_layers_inputs_and_outputs(tmp_path: Path) -> None:
    net = made(tmp_path, CHAIN)
    split = ["c_r_0_split_0", "c_r_0_split_1"]
    assert list(net.blobs) == ["data", "c", *split, "a", "b", "fc"] == list(net._blob_names)
    assert list(net._layer_names) == ["in", "c", "r", "c_r_0_split", "a", "b", "fc"]
    assert [layer.type for layer in net.layers[:3]] == ["Input", "Convolution", "ReLU"]
    assert net.layers[-1].type == "InnerProduct"
    assert len(net.layers[-1].blobs) == 2
    assert list(net.layer_dict) == list(net._layer_names)
    assert (net.inputs, net.outputs) == (["data"], ["a", "fc"])
    assert net.bottom_names["a"] == split[:1]
    assert net.top_names["c_r_0_split"] == split
    assert list(net._inputs) == [0]
    assert list(net._outputs) == [4, 6]
    assert list(net._bottom_ids(2)) == [1] == list(net._top_ids(2))
    assert set(net.blob_loss_weights.values()) == {0.0} == set(net._blob_loss_weights)
    assert list(net.params) == ["c", "fc"]
    assert len(net._blobs) == 7
    assert net.blobs is net.blobs
    assert net.blobs["c"] is net.blobs["c"]
    with pytest.raises(AttributeError):
        net.inputs = []  # type: ignore[misc]
    with pytest.raises(IndexError):
        net.layers[9]


def test_forward_takes_inputs_names_and_ranges(tmp_path: Path) -> None:
    net = made(tmp_path, CHAIN)
    x = np.random.RandomState(1).randn(2, 3, 5, 7)
    out = net.forward(blobs=["c"], data=x)
    assert set(out) == {"a", "fc", "c"}
    assert out["c"].dtype == np.float32
    assert (out["c"] >= 0).all()
    net.forward(data=np.ones((2, 1, 1, 1)))
    assert (net.blobs["data"].data == 1).all()
    assert set(net.forward(end="a")) == {"a"}
    net.blobs["c"].data[...] = -1
    assert set(net.forward(start="fc", end="c")) == {"c"}
    assert (net.blobs["c"].data == -1).all()
    for error, arguments in (
        (Exception, {"data": x, "q": x}),
        (Exception, {"data": x[:1]}),
        (ValueError, {"data": x[:, :2]}),
        (ValueError, {"start": "q"}),
        (ValueError, {"end": "q"}),
        (KeyError, {"blobs": ["q"]}),
        (TypeError, {"blobs": ("c",)}),
        (AttributeError, {"data": x.tolist()}),
    ):
        with pytest.raises(error):
            net.forward(**arguments)
    with pytest.raises(RuntimeError, match="the layers are 0 to 6"):
        net._forward(0, 7)


def test_backward_adds_to_learned_diffs_and_overwrites_the_others(tmp_path: Path) -> None:
    net = filled(made(tmp_path, "force_backward: true\n" + CHAIN))
    net.forward()
    tops = {"fc": np.ones((2, 6)), "a": np.zeros(net.blobs["a"].shape)}
    first = net.backward(**tops)["data"].copy()
    learned = net.params["c"][0].diff.copy()
    assert first.any()
    assert learned.any()
    again = net.backward(diffs=["b"], **tops)
    assert set(again) == {"data", "b"}
    assert np.allclose(again["data"], first)
    assert np.allclose(net.params["c"][0].diff, 2 * learned, rtol=1e-5)
    net.clear_param_diffs()
    assert not net.params["c"][0].diff.any()
    assert not net.params["fc"][1].diff.any()
    assert set(net.backward(start="fc", end="b")) == {"c_r_0_split_1"}
    for error, arguments in (
        (Exception, {"fc": tops["fc"]}),
        (Exception, {"fc": tops["fc"][:1], "a": tops["a"]}),
        (ValueError, {"start": "q"}),
        (KeyError, {"diffs": ["q"]}),
    ):
        with pytest.raises(error):
            net.backward(**arguments)


def test_backward_reads_what_a_program_wrote_after_forward(tmp_path: Path) -> None:
    net = filled(made(tmp_path, "force_backward: true\n" + CHAIN))
    net.forward()
    net.blobs["fc"].diff[...] = 1
    net.params["fc"][0].data[...] = 3
    net.backward(start="fc", end="fc")
    assert (net.blobs["b"].diff == 18).all()
    net.blobs["b"].data[...] = 2
    net.clear_param_diffs()
    net.backward(start="fc", end="fc")
    assert (net.params["fc"][0].diff == 4).all()


def test_without_a_loss_or_force_backward_nothing_goes_back(tmp_path: Path) -> None:
    net = filled(made(tmp_path, CHAIN))
    net.forward()
    assert not net.backward(fc=np.ones((2, 6)), a=np.ones(net.blobs["a"].shape))["data"].any()
    assert not net.params["fc"][0].diff.any()


def test_losses_count_with_their_weight(tmp_path: Path) -> None:
    net = made(tmp_path, LOSSES, caffe.TRAIN)
    net.blobs["x"].data[...] = np.random.RandomState(2).randn(3, 4)
    assert net.blobs["loss"].shape == ()
    assert net.blobs["loss"].diff == 0.5
    loss = net._forward(0, len(net.layers) - 1)
    assert loss == pytest.approx(0.5 * net.blobs["loss"].data)
    assert net.blob_loss_weights["loss"] == 0.5
    net.backward()
    total = net.params["fc"][1].diff
    assert abs(total.sum()) < 1e-6
    assert total.any()
    assert not net.blobs["x"].diff.any()
    assert not net.blobs["fc_fc_0_split_1"].diff.any()  # Accuracy's.


def test_a_label_out_of_range_is_an_error_that_names_the_layer(tmp_path: Path) -> None:
    net = made(tmp_path, LOSSES, caffe.TRAIN)
    net.blobs["y"].data[...] = 9
    with pytest.raises(RuntimeError, match=r"layer 'loss' \(SoftmaxWithLoss\)"):
        net.forward()


def test_forward_all_and_forward_backward_all(tmp_path: Path) -> None:
    net = filled(made(tmp_path, "force_backward: true\n" + CHAIN))
    x = np.random.RandomState(3).randn(5, 3, 5, 7).astype(np.float32)
    out = net.forward_all(blobs=["c"], data=x)
    assert {k: len(v) for k, v in out.items()} == {"a": 5, "fc": 5, "c": 5}
    assert np.allclose(out["fc"][4], net.forward(data=x[3:5])["fc"][1], atol=1e-5)
    empty = net.forward_all(data=x[:0])["fc"]
    assert empty.shape == (0,)
    assert empty.dtype == np.float64
    assert net.forward_all()["fc"].shape == (2, 6)
    dfc, da = np.ones((5, 6)), np.zeros((5, *net.blobs["a"].shape[1:]))
    data, diffs = net.forward_backward_all(data=x, fc=dfc, a=da)
    assert np.allclose(data["fc"], out["fc"], atol=1e-5)
    assert set(diffs) == {"data"}
    assert diffs["data"].shape == x.shape
    assert net.forward_backward_all(data=x)[1]["data"].shape == x.shape
    with pytest.raises(Exception, match="inputs and outputs"):
        net.forward_backward_all(q=x)
    with pytest.raises(RuntimeError):
        list(net._batch({}))


def test_reshape_goes_through_the_net(tmp_path: Path) -> None:
    net = made(tmp_path, CHAIN.split('layer { name: "b"')[0])
    net.blobs["data"].reshape(1, 3, 9, 8)
    net.reshape()
    assert list(net.blobs["a"].shape) == [1, 4, 7, 6]
    net.blobs["data"].reshape(3, 3, 6, 6)
    assert net.forward()["a"].shape == (3, 4, 4, 4)
    net = made(tmp_path, CHAIN)
    net.blobs["data"].reshape(2, 3, 6, 7)
    with pytest.raises(RuntimeError, match=r"layer 'fc' \(InnerProduct\)"):
        net.reshape()
    with pytest.raises(RuntimeError, match=r"layer 'fc' \(InnerProduct\)"):
        net.forward()


def test_weights_in_files(tmp_path: Path) -> None:
    net = filled(made(tmp_path, CHAIN))
    binary, hdf5 = str(tmp_path / "w.caffemodel"), str(tmp_path / "w.h5")
    net.save(binary)
    net.save_hdf5(hdf5)
    message = message_class("NetParameter").FromString(Path(binary).read_bytes())
    assert [la.name for la in message.layer] == list(net._layer_names)
    assert list(message.layer[4].bottom) == ["c_r_0_split_0"]
    assert message.layer[0].phase == 1
    assert [list(b.shape.dim) for b in message.layer[1].blobs] == [[4, 3, 3, 3], [4]]
    with h5py.File(hdf5) as file:
        assert set(file["data"]) == set(net._layer_names)
        assert not len(file["data/r"])
        assert (file["data/fc/1"][()] == net.params["fc"][1].data).all()
    text = str(tmp_path / "net.prototxt")
    others = [
        caffe.Net(text, caffe.TEST, weights=binary),
        caffe.Net(text, hdf5, caffe.TEST),
        caffe.Net(text.encode(), phase=caffe.TEST),
    ]
    others[2].load_hdf5(hdf5)
    for other in others:
        for name, blobs in net.params.items():
            for blob, read in zip(blobs, other.params[name], strict=True):
                assert (blob.data == read.data).all()
    wide = made(tmp_path, CHAIN.replace("num_output: 6", "num_output: 5"))
    with pytest.raises(RuntimeError, match=r"'fc'.*blob 0 has the shape \(6, 60\)"):
        wide.copy_from(binary)
    with pytest.raises(RuntimeError, match="absent"):
        net.copy_from(str(tmp_path / "absent"))
    with pytest.raises(RuntimeError):
        net.save(str(tmp_path / "absent" / "w.caffemodel"))


def test_shared_weights(tmp_path: Path) -> None:
    net, other = filled(made(tmp_path, CHAIN)), filled(made(tmp_path, CHAIN))
    other.share_with(net)
    net.params["fc"][0].data[...] = 0.5
    assert (other.params["fc"][0].data == 0.5).all()
    net.params["fc"][0].diff[...] = 1
    assert not other.params["fc"][0].diff.any()
    assert np.allclose(other.forward()["fc"], net.forward()["fc"])
    with pytest.raises(RuntimeError, match="blobs of other shapes"):
        other.share_with(made(tmp_path, CHAIN.replace("num_output: 6", "num_output: 5")))


def test_callbacks_see_each_layer(tmp_path: Path) -> None:
    net = filled(made(tmp_path, "force_backward: true\n" + CHAIN))
    seen: list[Any] = []
    net.before_forward(lambda i: seen.append(("bf", i)))
    net.after_forward(lambda i: seen.append(("af", i)))
    net.before_backward(lambda i: seen.append(("bb", i)))
    net.after_backward(lambda i: seen.append(("ab", i)))
    net.after_backward()
    net.forward(end="c")
    assert seen == [("bf", 0), ("af", 0), ("bf", 1), ("af", 1)]
    seen.clear()
    net.backward(start="fc", end="b")
    assert seen == [("bb", 6), ("ab", 6), ("bb", 5), ("ab", 5)]
    net.before_forward(lambda i: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        net.forward()
    net = made(tmp_path, CHAIN)
    net.before_forward(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        net.forward()


REFUSED = {
    "syntax": "layer {",
    "unknown field": CHAIN.replace("num_output", "num_outputs"),
    "unknown type": CHAIN.replace("TanH", "Zork"),
    "unknown bottom": CHAIN.replace('bottom: "b"', 'bottom: "zork"'),
    "one top twice": CHAIN.replace('top: "a"', 'top: "data"'),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_ends_genuine_caffe_is_an_error_with_its_reason(tmp_path: Path, fault: str) -> None:
    with pytest.raises(RuntimeError) as error:
        made(tmp_path, REFUSED[fault])
    assert "net.prototxt" in str(error.value)
    assert "--" not in str(error.value)  # There are no options to give.


def test_arguments_of_the_constructor(tmp_path: Path) -> None:
    path = str(tmp_path / "net.prototxt")
    Path(path).write_text(
        CHAIN + 'layer { name: "s" type: "TanH" bottom: "fc" top: "s" '
        'include { stage: "deep" min_level: 2 } }'
    )
    assert "s" not in caffe.Net(path, caffe.TEST).blobs
    for stages in (["deep"], ("deep",)):
        assert "s" in caffe.Net(path, caffe.TEST, 2, stages).blobs
    assert "s" not in caffe.Net(path, caffe.TEST, level=2, stages="deep").blobs
    bad: list[tuple[type[Exception], tuple[Any, ...], dict[str, Any]]] = [
        (RuntimeError, (path + "x", caffe.TEST), {}),
        (RuntimeError, (path, path + "x", caffe.TEST), {}),
        (RuntimeError, (path, caffe.TEST), {"weights": path + "x"}),
        (RuntimeError, (str(tmp_path), caffe.TEST), {}),
        (RuntimeError, (path, 7), {}),
        (TypeError, (path,), {}),
        (TypeError, (path, "TEST"), {}),
        (TypeError, (path, 1.0), {}),
        (TypeError, (Path(path), caffe.TEST), {}),
        (TypeError, (path, caffe.TEST), {"wieghts": path}),
        (TypeError, (path, caffe.TEST), {"stages": [1]}),
    ]
    for error, arguments, keywords in bad:
        with pytest.raises(error):
            caffe.Net(*arguments, **keywords)


def test_nets_have_attributes_and_subclasses_but_no_copies(tmp_path: Path) -> None:
    class Named(caffe.Net):
        def __init__(self, path: str) -> None:
            caffe.Net.__init__(self, path, caffe.TEST)
            self.title = "own"

    (tmp_path / "net.prototxt").write_text(CHAIN)
    net = Named(str(tmp_path / "net.prototxt"))
    assert net.title == "own"
    assert net.blobs["fc"].num == 2
    with pytest.raises(RuntimeError, match="cannot be pickled"):
        copy.deepcopy(net)


def test_nets_of_one_seed_have_the_same_fillers(tmp_path: Path) -> None:
    def weights() -> Any:
        return made(tmp_path, CHAIN).params["c"][0].data

    caffe.set_random_seed(5)
    first, second = weights(), weights()
    caffe.set_random_seed(5)
    assert (weights() == first).all()
    assert (first != second).any()
    with pytest.raises(OverflowError):
        caffe.set_random_seed(-1)
    with pytest.raises(TypeError):
        caffe.set_random_seed(1.5)  # type: ignore[arg-type]


def test_a_learned_blob_of_another_shape_has_the_same_numbers(tmp_path: Path) -> None:
    """Genuine Caffe's layers read as many numbers as they have set up, in any shape of the blob."""
    net = filled(made(tmp_path, CHAIN, caffe.TRAIN))
    net.blobs["data"].diff[...] = 0
    expected = net.forward()["fc"].copy()
    weight, bias = net.params["fc"]
    shape = tuple(weight.shape)
    net.blobs["fc"].diff[...] = 1
    net.backward()
    once = weight.diff.copy()
    weight.reshape(shape[1], shape[0])
    bias.reshape(bias.count + 2)  # New memory, of zeros.
    assert weight.data.shape == shape[::-1]
    found = net.forward()["fc"]
    assert found == pytest.approx(expected - expected[:1] + found[:1], abs=1e-5)
    net.backward()
    assert weight.diff.reshape(shape) == pytest.approx(2 * once, abs=1e-5)
