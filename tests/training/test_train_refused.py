"""What the command line does not train, and what it says of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_net import (
    BATCH,
    CLASSES,
    ITEMS,
    MOMENTUM,
    NET,
    SOLVER,
    train,
    write_data,
    write_net,
)


def test_the_loss_that_is_no_number_is_traced(folder: Path) -> None:
    values = np.zeros((ITEMS, 2, 3))
    values[1] = np.inf
    write_data(values, np.zeros(ITEMS))
    fails("before any update: the data blob 'x' holds a value that is not finite")
    write_data(np.full((ITEMS, 2, 3), -1.0), np.zeros(ITEMS))
    write_net(
        text=NET.replace('type: "TanH"', 'type: "Log"').replace('"xavier"', '"constant" value: 1')
    )
    fails("layer 'tanh' (Log) is the first whose output is not finite")


def test_labels_out_of_range_are_named(folder: Path) -> None:
    labels = np.zeros(ITEMS)
    labels[BATCH + 1] = CLASSES
    write_data(np.zeros((ITEMS, 2, 3)), labels)
    Path("solver.prototxt").write_text(
        SOLVER.replace("test_iter: 2", "").replace("snapshot: 6", "")
    )
    message = "layer 'loss' (SoftmaxWithLoss): 5 is in 'label', where 0 to 4 may be"
    fails(message)
    # Through a layer in between as well.
    same = (
        'layer { name: "same" type: "Power" bottom: "label" top: "labels" }\nlayer { name: "loss"'
    )
    text = NET.replace('layer { name: "loss"', same)
    write_net(text=text.replace('"label" top: "loss"', '"labels" top: "loss"'))
    fails(message.replace("'label'", "'labels'"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("lr_mult: 1", "lr_mult: 0"), ""),
        (("list.txt", "none.txt"), "none.txt"),
        (('type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"',
          'type: "Silence" bottom: "ip"  bottom: "label"'), "has no loss in phase TRAIN"),
        (("num_output: 7", "num_output: 0"), "num_output"),
        (('bottom: "label" top: "loss"',
          'bottom: "label" top: "loss" propagate_down: true propagate_down: true'),
         "propagate_down: a gradient of bottom 1, 'label', is asked for, and Caffe ends here"),
        (('layer { name: "loss"', """force_backward: true
          layer { name: "largest" type: "ArgMax" bottom: "ip" top: "m" }
          layer { name: "loss\""""), "a gradient of bottom 0, 'ip', is asked for"),
        (('layer { name: "loss"', """force_backward: true
          layer { name: "one" type: "Reduction" bottom: "ip" top: "s" reduction_param { axis: 1 } }
          layer { name: "some" type: "Filter" bottom: "ip" bottom: "s" top: "kept" }
          layer { name: "sum" type: "Reduction" bottom: "kept" top: "sum" loss_weight: 1 }
          layer { name: "loss\""""), "a gradient of bottom 1, 's', is asked for"),
        (('layer { name: "loss"', """layer { name: "b" type: "Bias" bottom: "ip" top: "b" }
          layer { name: "r" type: "ReLU" bottom: "b" top: "b" loss_weight: 0.1 }
          layer { name: "loss\""""), "works in place where the loss_weight of layer 'r' stands"),
        (('layer { name: "loss"', """layer { name: "b" type: "Bias" bottom: "ip" top: "b" }
          layer { name: "r" type: "ReLU" bottom: "b" top: "b" }
          layer { name: "flat" type: "Flatten" bottom: "b" top: "f2" loss_weight: 0.1 }
          layer { name: "loss\""""), "works in place where the loss_weight of layer 'flat' stands"),
    ],
)  # fmt: skip
def test_a_net_that_cannot_be_trained(folder: Path, change: tuple[str, str], message: str) -> None:
    if not message:
        text = NET.replace("lr_mult: 1", "lr_mult: 0").replace("lr_mult: 2", "lr_mult: 0")
        text = text.replace(
            "param { lr_mult: 0 }\n  inner", "param { lr_mult: 0 } param { lr_mult: 0 }\n  inner", 1
        )
        write_net(text=text)
        fails("nothing to learn")
        return
    write_net(text=NET.replace(*change))
    fails(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('net: "net.prototxt"', ""), "none is given; give one"),
        (("net: ", 'train_net: "net.prototxt" net: '), "net and train_net are given"),
        (("net: ", "train_net: "), "test_iter is given 1 times for 0 test nets"),
        (('net: "net.prototxt"', 'net: "other.prototxt"'), "'other.prototxt' is neither"),
        (("test_interval: 6", ""), "no test_interval above 0"),
        (("test_interval: 6", "test_interval: 6 test_state {} test_state {}"), "given 2 times"),
        (("max_iter: 12", ""), "no max_iter"),
        (("base_lr: 0.1", ""), "no base_lr"),
        (('lr_policy: "fixed"', ""), "sets no lr_policy: choose fixed"),
        (('lr_policy: "fixed"', 'lr_policy: "cosine"'), "unknown learning rate policy 'cosine'"),
        (('lr_policy: "fixed"', 'lr_policy: "step"'), "needs a positive stepsize"),
        (('lr_policy: "fixed"', 'lr_policy: "exp" gamma: -1'), "gamma is -1"),
        (("display: 5", "display: 5 average_loss: 0"), "average_loss is 0"),
        (("display: 5", "display: 5 iter_size: 0"), "iter_size is 0"),
        (("display: 5", "display: 5 snapshot_diff: true"), "snapshot_diff"),
        (("display: 5", "display: 5 solver_type: ADAM"), "both type and the older solver_type"),
        (("display: 5", 'display: 5 regularization_type: "L3"'), "regularization_type is 'L3'"),
        ((MOMENTUM, 'type: "RMSProp" momentum: 0.9'), "cannot be used with RMSProp"),
        ((MOMENTUM, 'type: "RMSProp" rms_decay: 1'), "rms_decay is 1"),
        ((MOMENTUM, 'type: "Lion"'), "no solver type 'Lion'"),
        (('snapshot_prefix: "out"', 'snapshot_prefix: "none/out"'), "folder 'none' is not there"),
        (("display: 5", "display: 5 learning: 3"), "learning"),
    ],
)  # fmt: skip
def test_a_solver_that_caffe_refuses(folder: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in SOLVER + MOMENTUM
    Path("solver.prototxt").write_text((SOLVER + MOMENTUM).replace(*change))
    fails(message)


def test_snapshots_that_do_not_fit(folder: Path) -> None:
    assert train().exit_code == 0
    state = "out_iter_6.solverstate"
    fails("of which one can be", "--snapshot", state, "--weights", "out_iter_6.caffemodel")
    fails("no such file", "--snapshot", "none.solverstate")
    fails("this is no solverstate", "--snapshot", "out_iter_6.caffemodel")
    whole = Path(state).read_bytes()
    Path("cut.solverstate").write_bytes(whole[: len(whole) // 2])
    fails("cut.solverstate", "--snapshot", "cut.solverstate")
    Path("solver.prototxt").write_text(SOLVER + 'type: "Adam" momentum: 0.9')
    fails("has 4 history blobs; the solver Adam keeps 8", "--snapshot", state)
    Path("solver.prototxt").write_text(SOLVER + MOMENTUM)
    os.rename("out_iter_6.caffemodel", "away")
    fails("neither there nor beside it", "--snapshot", state)


def fails(message: str, *arguments: str) -> None:
    """Training ends in one line with the message, exit code 2, and no file is written."""
    before = {path: path.read_bytes() for path in Path().iterdir()}
    result = train(*arguments)
    assert result.exit_code == 2, result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert message in error
    assert {path: path.read_bytes() for path in Path().iterdir()} == before
