from dataclasses import replace

import pytest
from support import genuine

from caffe2torch.errors import NetError, ReadError
from caffe2torch.training.optimisers import freeze, parameter_groups
from squeezenet.config import TrainConfig
from squeezenet.model import SqueezeNet
from squeezenet.solver import read_solver

NET = """
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true crop_size: 64 mean_value: 3 mean_value: 5 mean_value: 7
                    scale: 0.25 }
  image_data_param { source: "list.txt" batch_size: 6 } }
layer { name: "data" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 32 } image_data_param { source: "list.txt" batch_size: 11 } }
layer { name: "fire2/squeeze1x1" type: "Convolution" bottom: "data" top: "x"
  param { lr_mult: 3 decay_mult: 0.5 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 16 kernel_size: 1 } }
"""
SOLVER = """
net: "net.prototxt" type: "Nesterov" base_lr: 0.04 lr_policy: "multistep" gamma: 0.5
stepvalue: 30 stepvalue: 70 momentum: 0.9 weight_decay: 0.0002 regularization_type: "L1"
iter_size: 4 max_iter: 90 test_interval: 20 test_iter: 8 snapshot: 10 display: 5
clip_gradients: 10 random_seed: 42 snapshot_prefix: "x" solver_mode: GPU
"""


def write(folder, solver=SOLVER, net=NET):
    (folder / "net.prototxt").write_text(net)
    (folder / "solver.prototxt").write_text(solver)
    return folder / "solver.prototxt"


def test_every_field_becomes_its_setting(tmp_path):
    settings, solver = read_solver(write(tmp_path))
    assert settings == {
        "lr": 0.04,
        "schedule": "multistep",
        "gamma": 0.5,
        "power": 0.0,
        "stepsize": 0,
        "stepvalue": (30, 70),
        "momentum": 0.9,
        "momentum2": 0.999,
        "delta": 1e-8,
        "rms_decay": 0.99,
        "weight_decay": 0.0002,
        "regularization": "L1",
        "solver_type": "Nesterov",
        "iter_size": 4,
        "max_iter": 90,
        "eval_every": 20,
        "snapshot": 10,
        "log_every": 5,
        "clip": 2.5,
        "seed": 42,
        "classifier": "random",
        "batch_size": 6,
        "protocol": "caffe",
        "mirror": True,
        "crop": 64,
        "mean": (3.0, 5.0, 7.0),
        "scale": 0.25,
        "lr_mult": (("fire2.squeeze1x1.weight", 3.0), ("fire2.squeeze1x1.bias", 2.0)),
        "decay_mult": (("fire2.squeeze1x1.weight", 0.5), ("fire2.squeeze1x1.bias", 0.0)),
    }
    assert list(solver.idle) == ["test_iter", "snapshot_prefix", "solver_mode"]
    replace(TrainConfig(), **settings)


def test_legacy_solver_type_is_read(tmp_path):
    text = SOLVER.replace('type: "Nesterov"', "solver_type: ADAM")
    assert read_solver(write(tmp_path, text))[0]["solver_type"] == "Adam"


@pytest.mark.parametrize("field", ["base_lr: 0.04", 'lr_policy: "multistep"', "max_iter: 90"])
def test_a_solver_that_cannot_train_is_refused(tmp_path, field):
    with pytest.raises(NetError, match=f"sets no {field.split(':')[0]}"):
        read_solver(write(tmp_path, SOLVER.replace(field, "")))


def test_a_missing_net_is_named(tmp_path):
    path = write(tmp_path)
    (tmp_path / "net.prototxt").unlink()
    with pytest.raises(ReadError, match=r"net 'net.prototxt' is neither in the current folder nor"):
        read_solver(path)


def test_a_solver_may_name_no_net(tmp_path):
    text = SOLVER.replace('net: "net.prototxt"', 'test_net: "absent.prototxt"')
    settings, solver = read_solver(write(tmp_path, text))
    assert settings["lr"] == 0.04
    assert not {"batch_size", "lr_mult", "mean"} & settings.keys()
    assert set(solver.idle) == {"test_net", "test_iter", "snapshot_prefix", "solver_mode"}


def test_the_net_is_looked_for_where_caffe_does_and_then_beside_the_solver(tmp_path, monkeypatch):
    path = write(tmp_path)
    (tmp_path / "mean.binaryproto").touch()
    beside = NET.replace(
        "mean_value: 3 mean_value: 5 mean_value: 7", 'mean_file: "mean.binaryproto"'
    )
    (tmp_path / "net.prototxt").write_text(beside)
    assert read_solver(path)[0]["mean"] == str(tmp_path / "mean.binaryproto")
    current = tmp_path / "current"
    current.mkdir()
    (current / "net.prototxt").write_text(NET.replace("batch_size: 6", "batch_size: 3"))
    monkeypatch.chdir(current)
    assert read_solver(path)[0]["batch_size"] == 3


def test_the_layers_are_those_of_the_training_state_in_any_generation(tmp_path):
    text = """layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "x"
      blobs_lr: 3 blobs_lr: 2 convolution_param { num_output: 16 kernel_size: 1 } }"""
    (tmp_path / "old").mkdir()
    settings, _ = read_solver(write(tmp_path / "old", net='input: "data"' + text))
    assert settings["lr_mult"] == (("conv1.weight", 3.0), ("conv1.bias", 2.0))
    staged = NET.replace("batch_size: 6", "batch_size: 9").replace("TRAIN", "TRAIN stage: 'big'")
    (tmp_path / "new").mkdir()
    assert "batch_size" not in read_solver(write(tmp_path / "new", net=staged))[0]
    chosen = SOLVER + "train_state { stage: 'big' }"
    assert read_solver(write(tmp_path / "new", chosen, staged))[0]["batch_size"] == 9


def test_an_interval_of_never_and_a_seed_that_is_not_given_leave_the_settings(tmp_path):
    text = SOLVER.replace("display: 5", "display: 0").replace("random_seed: 42", "")
    assert not {"log_every", "seed"} & read_solver(write(tmp_path, text))[0].keys()


def test_the_published_solver_maps():
    settings, _ = read_solver(genuine("MODELS", "squeezenet_v1.0", "solver.prototxt"))
    wanted = {
        "lr": 0.04,
        "schedule": "poly",
        "power": 1.0,
        "max_iter": 170000,
        "iter_size": 16,
        "batch_size": 32,
        "momentum": 0.9,
        "weight_decay": 0.0002,
        "mirror": False,
        "seed": 42,
    }
    assert {key: settings[key] for key in wanted} == wanted


def test_groups_carry_the_multipliers():
    model = SqueezeNet(num_classes=3)
    freeze(model, ("conv1.*",))
    groups = parameter_groups(model, 0.01, (("*", 0.1), ("conv10.bias", 20.0)), (("*.bias", 0.0),))
    of = {
        id(parameter): (group["lr_mult"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert of[id(model.conv10.bias)] == (20.0, 0.0)
    assert of[id(model.conv10.weight)] == (0.1, 0.01)
    assert of[id(model.fire2.squeeze1x1.bias)] == (0.1, 0.0)
    assert id(model.conv1.weight) not in of
    assert len(of) == len(list(model.parameters())) - 2


def test_a_pattern_that_matches_nothing_is_an_error():
    model = SqueezeNet(num_classes=3)
    with pytest.raises(NetError, match=r"lr_mult 'fc8\.\*' matches no parameter"):
        parameter_groups(model, 0.0, (("fc8.*", 2.0),), ())
    with pytest.raises(NetError, match="freeze leaves nothing to train"):
        freeze(model, ("*",))
