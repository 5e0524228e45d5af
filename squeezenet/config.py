"""The settings of a training run, as plain data that a checkpoint can carry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from caffe2torch.errors import ReadError
from caffe2torch.training.rules import Multipliers

LR_RULES: dict[str, Callable[[float], float]] = {"linear": float, "sqrt": math.sqrt}
"""What the learning rate is multiplied by where a step has so many times the images: as many
times, for SGD (Goyal et al. 2017), or their square root, as is usual with Adam."""

FEW_IMAGES = 500
"""Fewer training images than this are soon learned by heart and want the smaller rate. Measured:
245 images want it, sets of 600 to 1200 the larger (docs/recipe.md)."""

LR_FEW, LR_MANY = 0.0002, 0.001
"""For steps of 16 images, the default of ``batch_size``."""


@dataclass(frozen=True)
class TrainConfig:
    """What ``squeezenet train`` is asked to do; each field is an option of that name.

    ``batch_size`` counts the images of all processes in one forward pass, and ``iter_size``
    passes make one step. ``classifier`` says how one of other classes than those of ``pretrained``
    begins: "mixed" (``squeezenet.head``) or "random". ``epochs`` counts where ``max_iter`` is 0.
    Where ``lr`` is None it is ``LR_FEW`` for fewer than ``FEW_IMAGES`` training images, otherwise
    ``LR_MANY``.
    ``lr_scale`` is a rule of ``LR_RULES`` and the images a step for which ``lr`` was chosen. Where
    ``channels_last`` is None, ``caffe2torch.training.precision.prefers_channels_last`` decides.
    """

    data: str = "."
    train_list: str | None = None
    val_list: str | None = None
    out: str = "runs/squeezenet"
    pretrained: str | None = None
    version: str = "1.1"
    bypass: str | None = None
    num_classes: int | None = None
    dropout: float = 0.5
    classifier: str = "mixed"
    protocol: str = "random-resized-crop"
    val_protocol: str = "caffe"
    area: float = 0.35
    resize: int = 256
    crop: int = 227
    mean: tuple[float, ...] | str = (104.0, 117.0, 123.0)
    scale: float = 1.0
    mirror: bool = True
    rotation: float = 0.0
    jitter: float = 0.0
    decode: str = "exact"
    on_bad_image: str = "skip"
    workers: int = 2
    seed: int = 0
    epochs: float = 10.0
    max_iter: int = 0
    batch_size: int = 16
    iter_size: int = 1
    solver_type: str = "SGD"
    lr: float | None = None
    lr_scale: tuple[str, int] | None = None
    schedule: str = "cosine"
    gamma: float = 0.1
    power: float = 1.0
    stepsize: int = 0
    stepvalue: tuple[int, ...] = ()
    warmup: int = 0
    momentum: float = 0.9
    momentum2: float = 0.999
    delta: float = 1e-8
    rms_decay: float = 0.99
    weight_decay: float = 0.0002
    regularization: str = "L2"
    lr_mult: Multipliers = ()
    decay_mult: Multipliers = ()
    freeze: tuple[str, ...] = ()
    label_smoothing: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    precision: str = "fp32"
    channels_last: bool | None = None
    compile: bool = False
    device: str = "auto"
    threads: int = 0
    average_loss: int = 0
    log_every: int = 20
    eval_every: int = 0
    snapshot: int = 0
    tensorboard: bool = False

    @property
    def images_per_step(self) -> int:
        """The images of all processes whose gradients make one step."""
        return self.batch_size * self.iter_size

    def base_lr(self, images: int) -> float:
        """The learning rate for this run's steps, with so many training images."""
        lr = self.lr
        if lr is None:
            lr = LR_FEW if images < FEW_IMAGES else LR_MANY
        if self.lr_scale is None:
            return lr
        rule, batch = self.lr_scale
        return lr * LR_RULES[rule](self.images_per_step / batch)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> TrainConfig:
        """The settings that ``dataclasses.asdict`` gave."""
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise ReadError(f"the checkpoint has settings of another version: {sorted(unknown)}")
        return cls(**values)
