"""Solvers of pycaffe, name by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe2torch.pycaffe as caffe
from caffe2torch.training.run import open_fed

NET = """
name: "fit"
layer { name: "d" type: "DummyData" top: "x" top: "t" dummy_data_param { shape { dim: 2 dim: 3 }
  shape { dim: 2 dim: 4 } data_filler { value: 1 } data_filler { value: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 4
  weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "l" }
"""
RULE = 'base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 2 max_iter: 7 random_seed: 3\n'
TESTS = "test_iter: 2 test_interval: 3 test_initialization: false\n"


@pytest.fixture
def solver_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "1")
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(f'net: "net.prototxt" snapshot_prefix: "s"\n{RULE}{TESTS}')
    return "solver.prototxt"


def test_reading_lr_counts_a_drop_that_is_due(solver_file: str) -> None:
    """The rates that genuine pycaffe reads: one drop of ``multistep`` further at each reading."""
    rule = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 0 stepvalue: 2 stepvalue: 3'
    Path("solver.prototxt").write_text(f'net: "net.prototxt" base_lr: 0.1 {rule}')
    solver = caffe.get_solver("solver.prototxt")
    assert [round(solver.lr, 8) for _ in range(3)] == [0.01, 0.01, 0.01]
    solver.step(3)
    assert [round(solver.lr, 8) for _ in range(3)] == [0.0001, 0.0001, 0.0001]
    rule = 'lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 2 stepvalue: 2'
    Path("solver.prototxt").write_text(f'net: "net.prototxt" base_lr: 0.1 {rule}')
    solver = caffe.get_solver("solver.prototxt")
    solver.step(2)
    assert [round(solver.lr, 8) for _ in range(4)] == [0.01, 0.001, 0.0001, 0.0001]


def weights(solver: Any) -> list[Any]:
    return [blob.data.copy() for blob in solver.net.params["fc"]]


def test_step_iter_lr_and_param(solver_file: str) -> None:
    solver = caffe.get_solver(solver_file)
    assert type(solver) is caffe.SGDSolver
    assert solver.iter == 0
    before = weights(solver)
    solver.step(0)
    solver.step(-1)
    assert all((a == b).all() for a, b in zip(before, weights(solver), strict=True))
    solver.step(2)
    assert solver.iter == 2
    assert solver.lr == np.float32(0.05)
    solver.param.base_lr *= 0.1
    assert solver.lr == np.float32(0.005)
    assert (solver.param.max_iter, solver.param.display) == (7, 0)
    for name in ("iter", "lr", "net"):
        with pytest.raises(AttributeError):
            setattr(solver, name, 1)
    with pytest.raises(AttributeError):
        setattr(solver.param, "max_iter", 1)  # noqa: B010
    for arguments in ((), (1.5,), (1, 2)):
        with pytest.raises(TypeError):
            solver.step(*arguments)


def test_param_shows_the_files_layer_wise_reduce(solver_file: str) -> None:
    assert caffe.get_solver(solver_file).param.layer_wise_reduce is True
    with Path(solver_file).open("a") as file:
        file.write("layer_wise_reduce: false\n")
    assert caffe.get_solver(solver_file).param.layer_wise_reduce is False


def test_apply_update_takes_the_diffs_as_they_are(solver_file: str) -> None:
    solver = caffe.SGDSolver(solver_file.encode())
    weight = solver.net.params["fc"][0]
    before = weight.data.copy()
    weight.diff[...] = 2
    solver.apply_update()
    assert np.allclose(weight.data, before - 0.2)
    assert np.allclose(weight.diff, 0.2)
    assert solver.iter == 1


def test_the_class_decides_the_rule(solver_file: str) -> None:
    Path("adam.prototxt").write_text(Path(solver_file).read_text() + 'type: "Adam"')
    assert type(caffe.get_solver("adam.prototxt")) is caffe.AdamSolver
    assert issubclass(caffe.AdamSolver, caffe.SGDSolver)
    plain, given = caffe.SGDSolver("adam.prototxt"), caffe.SGDSolver(solver_file)
    adam = caffe.AdamSolver(solver_file)
    for solver in (plain, given, adam):
        solver.step(3)
    assert all((a == b).all() for a, b in zip(weights(plain), weights(given), strict=True))
    assert (weights(plain)[0] != weights(adam)[0]).any()


def test_snapshot_restore_and_solve(solver_file: str) -> None:
    solver = caffe.get_solver(solver_file)
    solver.step(4)
    solver.snapshot()
    assert Path("s_iter_4.caffemodel").exists()
    other = caffe.get_solver(solver_file)
    other.restore("s_iter_4.solverstate")
    assert other.iter == 4
    assert all((a == b).all() for a, b in zip(weights(solver), weights(other), strict=True))
    other.solve()
    solver.solve()
    assert (solver.iter, other.iter) == (7, 7)
    assert all((a == b).all() for a, b in zip(weights(solver), weights(other), strict=True))
    assert Path("s_iter_7.solverstate").exists()
    again = caffe.get_solver(solver_file)
    again.solve("s_iter_4.solverstate")
    assert again.iter == 7
    for path in ("absent", solver_file):
        with pytest.raises(RuntimeError):
            again.restore(path)


def test_test_nets_share_the_weights_once_tested(solver_file: str) -> None:
    solver = caffe.get_solver(solver_file)
    assert len(solver.test_nets) == 1
    test = solver.test_nets[0]
    with pytest.raises(IndexError):
        solver.test_nets[len(solver.test_nets)]
    shared = solver.net.params["fc"][0]
    assert not np.shares_memory(test.params["fc"][0].data, shared.data)
    solver.step(4)
    assert np.shares_memory(test.params["fc"][0].data, shared.data)
    own = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(own)
    assert np.shares_memory(own.params["fc"][0].data, shared.data)
    net = solver.net
    del solver
    assert net.forward()["l"] >= 0


def test_callbacks_see_clear_and_full_gradients(solver_file: str) -> None:
    solver = caffe.get_solver(solver_file)
    diff = solver.net.params["fc"][0].diff
    seen: list[Any] = []
    solver.add_callback(
        lambda: seen.append(("start", bool(diff.any()))),
        lambda: seen.append(("ready", bool(diff.any()))),
    )
    solver.step(2)
    assert seen == [("start", False), ("ready", True)] * 2
    solver.add_callback(lambda: 1 // 0, lambda: None)
    with pytest.raises(ZeroDivisionError):
        solver.step(1)


def test_what_cannot_be_opened_is_refused(solver_file: str) -> None:
    Path("odd.prototxt").write_text(Path(solver_file).read_text() + 'type: "Odd"')
    for path in ("absent", "odd.prototxt", "net.prototxt"):
        with pytest.raises(RuntimeError):
            caffe.get_solver(path)
    for make in (caffe.SGDSolver, caffe.get_solver):
        with pytest.raises(TypeError):
            make(Path(solver_file))
    with pytest.raises(TypeError):
        caffe.SGDSolver(param_file=solver_file)


def test_the_rest_of_the_module() -> None:
    assert (caffe.TRAIN, caffe.TEST, caffe.__version__) == (0, 1, "1.0.0")
    types = caffe.layer_type_list()
    assert len(types) == 59
    assert list(types) == sorted(types)
    assert "Convolution" in types[:]
    timer = caffe.Timer()
    assert timer.ms == 0.0
    timer.stop()
    timer.start()
    assert timer.ms == int(timer.ms) >= 0
    assert caffe.NCCL(None, "x")
    assert not caffe.has_nccl()
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    caffe.set_solver_count(2)
    assert caffe.solver_count() == 2
    caffe.set_solver_count(1)
    caffe.set_mode_cpu()
    caffe.log("a message")
    with pytest.raises(TypeError):
        caffe.Layer()  # type: ignore[call-arg]


def test_a_first_loss_that_is_no_number_is_an_error_that_names_the_layer(solver_file: str) -> None:
    solver = caffe.get_solver(solver_file)
    solver.net.params["fc"][1].data[...] = np.nan
    with pytest.raises(RuntimeError, match=r"layer 'fc' \(InnerProduct\) is the first"):
        solver.step(1)
    assert solver.iter == 0


def test_a_saved_net_states_what_a_snapshot_of_training_does(tmp_path: Path) -> None:
    norm = """layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" PARAM }
        layer { name: "silence" type: "Silence" bottom: "x" }\n"""
    for stated, rates in (("", [0, 0, 0]), ("param { lr_mult: 0 }", [0, 0, 0])):
        text = NET.replace('layer { name: "l"', norm.replace("PARAM", stated) + 'layer { name: "l"')
        (tmp_path / "net.prototxt").write_text(text)
        net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN)
        net.save(str(tmp_path / "net.caffemodel"))
        saved = caffe.proto.caffe_pb2.NetParameter()
        saved.ParseFromString((tmp_path / "net.caffemodel").read_bytes())
        with open_fed(tmp_path / "net.prototxt", "TRAIN") as fed:
            layers, _ = fed.layers()
        assert [spec.lr_mult for spec in saved.layer[3].param] == rates
        for one, other in zip(saved.layer, layers, strict=True):
            one.ClearField("blobs")
            assert str(one) == str(other.proto)


def test_reading_the_rate_counts_a_drop_that_is_due(solver_file: str) -> None:
    """As Caffe does: with two drops at iteration 2, a second reading is one drop further."""
    rule = RULE.replace('"step" gamma: 0.5 stepsize: 2', '"multistep" gamma: 0.1 STEPS')
    rule = rule.replace("STEPS", "stepvalue: 2 stepvalue: 2 stepvalue: 3")
    Path(solver_file).write_text(f'net: "net.prototxt" {rule}')
    solver = caffe.get_solver(solver_file)
    solver.step(3)
    assert [solver.lr for _ in range(3)] == pytest.approx([1e-3, 1e-4, 1e-4])


def test_learned_blobs_may_get_another_shape(solver_file: str) -> None:
    """The layer goes on with the numbers that it knows, as in Caffe."""
    plain, reshaped = caffe.get_solver(solver_file), caffe.get_solver(solver_file)
    blob = reshaped.net.params["fc"][0]
    blob.reshape(12)
    for solver in (plain, reshaped):
        solver.step(2)
    assert blob.data.shape == (12,)
    np.testing.assert_array_equal(blob.data, weights(plain)[0].ravel())
    np.testing.assert_array_equal(blob.diff, plain.net.params["fc"][0].diff.ravel())
