"""The parts of a training of SqueezeNet, each made as the settings say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from caffe2torch.errors import NetError
from caffe2torch.io.atomic import check_folder, check_writable
from caffe2torch.preprocessing import Preprocessing
from caffe2torch.training.distributed import Team
from caffe2torch.training.optimisers import CaffeOptimiser, freeze, parameter_groups
from caffe2torch.training.precision import prefers_channels_last
from caffe2torch.training.rules import Schedule
from squeezenet.config import TrainConfig
from squeezenet.data import ImageDataset
from squeezenet.decode import DeviceDecoder
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import Transform
from squeezenet.sources import count_classes, open_split
from squeezenet.weights import model_to_train


def check_out(folder: Path) -> None:
    """Raise ArtefactError where a run could not write into ``folder``: sooner than after hours."""
    check_folder(folder)
    if folder.is_dir():
        for name in ("last.pt", "best.pt", "log.jsonl"):
            check_writable(folder / name)


class Data(NamedTuple):
    """The images of a run: a seeded stream for training, every image once for validation."""

    train_set: ImageDataset
    val_set: ImageDataset
    num_classes: int
    class_names: list[str]


def open_data(config: TrainConfig, team: Team) -> Data:
    """The images, and the classes that they have; the processes of a team open them together."""
    root = Path(config.data)
    transform = make_transform(config, config.protocol)
    transform = replace(transform, decode=config.decode)
    if transform.on_device:
        DeviceDecoder(team.device, transform.crop)  # One that cannot decode is an error at once.
    train_split = open_split(root, config.train_list, "train", team)
    val_split = open_split(root, config.val_list, "val", team)
    num_classes = count_classes(train_split, val_split, config.num_classes)
    return Data(
        ImageDataset(train_split.source, transform, seed=config.seed),
        ImageDataset(val_split.source, make_transform(config, config.val_protocol), seed=None),
        num_classes,
        list(train_split.class_names),
    )


def make_transform(config: TrainConfig, protocol: str) -> Transform:
    """The transform of the settings for one of the protocols."""
    mean, mean_file = ((), config.mean) if isinstance(config.mean, str) else (config.mean, None)
    made = Preprocessing(
        crop_size=config.crop,
        mean=mean,
        mean_file=mean_file,
        scale=config.scale,
        mirror=config.mirror,
        resize=config.resize,
        protocol=protocol,
    )
    return Transform(made, rotation=config.rotation, jitter=config.jitter, area=(config.area, 1.0))


def make_schedule(config: TrainConfig, images: int, max_iter: int) -> Schedule:
    """The policy of the rate, for a set of so many training images."""
    return Schedule(
        policy=config.schedule,
        base_lr=config.base_lr(images),
        max_iter=max_iter,
        gamma=config.gamma,
        power=config.power,
        stepsize=config.stepsize,
        stepvalue=config.stepvalue,
        warmup=config.warmup,
    )


def make_model(
    config: TrainConfig, num_classes: int, device: torch.device, report: Callable[[str], None]
) -> tuple[SqueezeNet, nn.Conv2d | None, bool]:
    """The net on its device, the classifier that a new one replaces, if any, and the order.

    The net is new, or has the weights of a file; its classifier is new where the classes differ.
    The order says whether channels are the last in memory. Raises NetError for a crop that is too
    small.
    """
    model, old_classifier = model_to_train(config, num_classes, report)
    model.to(device)
    least = model.smallest_input
    if config.crop < least:
        raise NetError(
            f"--crop {config.crop} is too small for SqueezeNet {model.version}: its last "
            f"pooling needs a crop of {least} or more"
        )
    freeze(model, config.freeze)
    last = config.channels_last
    if last is None:
        last = prefers_channels_last(model, device, config.precision)
    if last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types the method without it
    return model, old_classifier, last


def make_optimiser(config: TrainConfig, model: SqueezeNet) -> CaffeOptimiser:
    """What changes the weights that are not frozen."""
    groups = parameter_groups(model, config.weight_decay, config.lr_mult, config.decay_mult)
    return CaffeOptimiser(
        groups,
        config.solver_type,
        momentum=config.momentum,
        momentum2=config.momentum2,
        delta=config.delta,
        rms_decay=config.rms_decay,
        regularization=config.regularization,
        clip_gradients=config.clip or -1.0,
    )
