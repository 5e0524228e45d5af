"""Training of SqueezeNet: the whole of a run, from settings to checkpoints, top to bottom."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import progress
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import Caffe2TorchError, NetError, ReadError, WeightsError
from caffe2torch.preprocessing import Preprocessing
from caffe2torch.training.distributed import Team, join_team
from caffe2torch.training.log import append_line, scalar_writer
from caffe2torch.training.optimisers import CaffeOptimiser, WeightAverage, freeze, parameter_groups
from caffe2torch.training.rules import Schedule
from squeezenet.checkpoint import (
    damage_named,
    load_checkpoint,
    make_folder,
    save_checkpoint,
)
from squeezenet.config import TrainConfig
from squeezenet.data import (
    BadImages,
    Batch,
    ImageDataset,
    checked,
    count_classes,
    make_loader,
    open_split,
    train_batches,
)
from squeezenet.evaluate import DTYPES, Metrics, evaluate, on_device, prefers_channels_last
from squeezenet.feed import Feed
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import Transform
from squeezenet.weights import load_model


class DivergedError(Caffe2TorchError):
    """The loss is no longer a number."""


def train(
    config: TrainConfig,
    *,
    init_from: Path | None = None,
    report: Callable[[str], None] = print,
    show_progress: bool = False,
) -> Metrics:
    """Train as the settings say and return how the last model does on the validation set.

    ``init_from`` is a checkpoint to go on from: model, optimiser, average, random state and
    position in the data are restored, so the outcome is that of a run never interrupted. With
    another number of processes, too, each image of an epoch moves the model once; sums are
    rounded otherwise then, and dropout takes other masks.
    ``out/last.pt`` and ``out/best.pt`` are written, and ``out/log.jsonl`` gets a line for
    each line of the log.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with join_team(config.device) as team:
        return _Run(config, team, report if team.leads else lambda _: None, show_progress).go(
            init_from
        )


class _Run:
    def __init__(
        self, config: TrainConfig, team: Team, report: Callable[[str], None], show_progress: bool
    ) -> None:
        self.config, self.team, self.report = config, team, report
        self.out = Path(config.out)
        torch.manual_seed(config.seed)

        # Data: a seeded stream for training, every image once for validation.
        root = Path(config.data)
        train_split = open_split(root, config.train_list, "train")
        val_split = open_split(root, config.val_list, "val")
        self.num_classes = count_classes(train_split, val_split, config.num_classes)
        self.class_names = list(train_split.class_names)
        self.train_set = ImageDataset(
            train_split.source,
            replace(make_transform(config, config.protocol), reduced=config.decode == "reduced"),
            seed=config.seed,
        )
        self.val_set = ImageDataset(
            val_split.source, make_transform(config, config.val_protocol), seed=None
        )
        self.bad = BadImages(config.on_bad_image, report)
        images = len(train_split.source)
        # Steps taken, and images of the stream of training images that they took.
        self.step, self.images = 0, 0
        self.max_iter = self._last_step()
        self.eval_every = config.eval_every or math.ceil(images / config.images_per_step)

        # Model: new, or with weights from a file; the classifier is new if the classes differ.
        self.lr_mult = config.lr_mult
        self.model = self._make_model().to(team.device)
        least = self.model.smallest_input
        if config.crop < least:
            raise NetError(
                f"--crop {config.crop} is too small for SqueezeNet {self.model.version}: its last "
                f"pooling needs a crop of {least} or more"
            )
        freeze(self.model, config.freeze)
        last = config.channels_last
        if last is None:
            last = prefers_channels_last(self.model, team.device, config.precision)
        self.channels_last = last
        if self.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types the method without it
        self.average = WeightAverage(self.model, config.ema) if config.ema else None

        # Optimiser and schedule.
        groups = parameter_groups(self.model, config.weight_decay, self.lr_mult, config.decay_mult)
        self.optimiser = CaffeOptimiser(
            groups,
            config.solver_type,
            lr=config.base_lr,
            momentum=config.momentum,
            momentum2=config.momentum2,
            delta=config.delta,
            rms_decay=config.rms_decay,
            regularization=config.regularization,
        )
        self.schedule = Schedule(
            policy=config.schedule,
            base_lr=config.base_lr,
            max_iter=self.max_iter,
            gamma=config.gamma,
            power=config.power,
            stepsize=config.stepsize,
            stepvalue=config.stepvalue,
            warmup=config.warmup,
        )
        if team.rank:
            self._seed_masks()
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=config.precision == "fp16")
        self.best = (-1.0, math.inf)
        self.progress = progress.Progress(
            progress.TextColumn("training"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            disable=not (show_progress and team.leads),
        )

    def _last_step(self) -> int:
        """Where the run ends: the images of ``epochs`` that are left may come in other batches."""
        config = self.config
        # Rounded, so that a fraction of an epoch counts the same wherever it is counted from.
        left = round(config.epochs * len(self.train_set) - self.images, 6)
        return config.max_iter or max(1, self.step + math.ceil(left / config.images_per_step))

    def _make_model(self) -> SqueezeNet:
        config = self.config
        if config.pretrained is None:
            return SqueezeNet(
                config.version,
                bypass=config.bypass,
                num_classes=self.num_classes,
                dropout=config.dropout,
            )
        loaded = load_model(
            Path(config.pretrained),
            version=config.version,
            bypass=config.bypass,
            dropout=config.dropout,
        )
        model, made = loaded.model, loaded.transform.preprocessing
        if made.channel_order != "BGR" or made.std:
            raise WeightsError(
                f"{config.pretrained} takes {made.channel_order} images, normalised; training "
                "feeds blue first. Start from weights that were converted without --input."
            )
        if model.num_classes != self.num_classes:
            self.report(
                f"the classifier is new: {config.pretrained} has {model.num_classes} classes, "
                f"the data {self.num_classes}"
            )
            self.lr_mult = (("conv10.*", config.head_lr_mult), *config.lr_mult)
            model.replace_classifier(self.num_classes)
        return model

    def _seed_masks(self) -> None:
        """Set the random state of dropout, whose masks are each process's own."""
        place = (self.config.seed, self.step, self.team.rank)
        torch.manual_seed(int(np.random.default_rng(place).integers(2**63)))

    def go(self, init_from: Path | None) -> Metrics:
        """Train from the first step, or from the one a checkpoint was written after."""
        if init_from is not None:
            state = load_checkpoint(init_from)
            with damage_named(init_from):
                self._restore(state)
        if len(set(steps := self.team.gather(self.step))) > 1:
            raise ReadError(
                f"the processes go on from different steps, {min(steps)} to {max(steps)}: --out "
                "has to be one folder for all machines"
            )
        self.forward = self.team.wrap(self.model)
        if self.config.compile:
            self.forward = torch.compile(self.forward)  # type: ignore[assignment]  # a callable module
        self.model.train()
        batches = self._train_batches()
        self._open_window()
        metrics = None
        with self.progress:
            bar = self.progress.add_task("training", total=self.max_iter)
            while self.step < self.max_iter:
                for group in self.optimiser.param_groups:
                    group["lr"] = self.schedule.rate(self.step) * group["lr_mult"]
                self._train_step(batches)
                if self.average:
                    self.average.update(self.model, self.step)
                self.step += 1
                self.images += self.config.images_per_step
                self.progress.update(bar, completed=self.step)
                if self.step % self.config.log_every == 0 or self.step == self.max_iter:
                    self._log()
                    self._open_window()
                if self.step % self.eval_every == 0 or self.step == self.max_iter:
                    metrics = self._validate()
                elif self.config.snapshot and self.step % self.config.snapshot == 0:
                    self._save("last.pt")
        if metrics is None:
            metrics = self._validate()
        if len(self.bad):
            self.report(f"{len(self.bad)} bad images were skipped; each is named above")
        return metrics

    def _train_batches(self) -> Iterator[Batch]:
        config, team = self.config, self.team
        draws = train_batches(
            len(self.train_set),
            config.batch_size,
            seed=config.seed,
            rank=team.rank,
            world=team.world,
            start=self.images,
        )
        loader = make_loader(
            self.train_set, draws, workers=config.workers, pin=team.device.type == "cuda"
        )
        feed = Feed(self.train_set.transform, team.device, channels_last=self.channels_last)
        return feed(checked(loader, self.train_set, self.num_classes, self.bad))

    def _train_step(self, batches: Iterator[Batch]) -> None:
        """One update from ``iter_size`` batches: the gradient of the mean over all images."""
        config, last = self.config, self.config.iter_size - 1
        self.optimiser.zero_grad(set_to_none=True)
        total, count = torch.zeros((), device=self.team.device), 0
        for index, batch in enumerate(itertools.islice(batches, config.iter_size)):
            with self._gradients_stay_local(index < last):
                loss = self._loss(batch)
                # Bad images add nothing; torch averages over the processes, hence ``world``.
                self.scaler.scale(loss * (self.team.world / config.images_per_step)).backward()  # type: ignore[no-untyped-call]  # untyped in torch
            total += loss.detach()
            count += len(batch.labels)
        if config.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.window.append((total, count))

    def _loss(self, batch: Batch) -> Tensor:
        """The summed cross-entropy of a batch."""
        config, device = self.config, self.team.device
        images, labels = batch.images, batch.labels
        if not len(labels):
            # Every process has to take part in each step, even with nothing to learn from.
            images = torch.zeros(1, 3, config.crop, config.crop, device=device)
            labels = torch.full((1,), -100, device=device)
        with torch.autocast(
            device.type, DTYPES[config.precision], enabled=config.precision != "fp32"
        ):
            logits = self.forward(images)
        return F.cross_entropy(
            logits.float(),
            labels,
            reduction="sum",
            label_smoothing=config.label_smoothing,
        )

    def _gradients_stay_local(self, local: bool) -> contextlib.AbstractContextManager[Any]:
        if local and self.team.world > 1:
            return self.forward.no_sync()  # type: ignore[no-any-return,operator]  # of the DDP wrapper
        return contextlib.nullcontext()

    def _open_window(self) -> None:
        """Begin to gather losses for a line of the log; read once, so that a GPU need not wait."""
        self.window: list[tuple[Tensor, int]] = []
        self.window_start = time.perf_counter()

    def _log(self) -> None:
        losses, counts = zip(*self.window, strict=True)
        totals = torch.tensor([float(torch.stack(losses).sum()), float(sum(counts))])
        loss, images = self.team.sum(totals).tolist()
        if not images:
            raise ReadError(
                f"none of the images of the last {len(self.window)} steps could be used, up to "
                f"step {self.step}: correct --data and --train-list"
            )
        loss /= max(images, 1.0)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {self.step}: the training has diverged; lower --lr "
                f"(now {self.schedule.rate(self.step - 1):.4g}) or set --clip or --warmup"
            )
        speed = images / (time.perf_counter() - self.window_start)
        epoch = self.images / len(self.train_set)
        rate = self.schedule.rate(self.step - 1)
        self.report(
            f"step {self.step}/{self.max_iter}  epoch {epoch:.2f}  loss {loss:.4f}  "
            f"lr {rate:.4g}  {speed:.1f} images/s"
        )
        self._record({"step": self.step, "epoch": epoch, "loss": loss, "lr": rate, "speed": speed})

    def _validate(self) -> Metrics:
        """Measure the model that would be used (the average, if one is kept) and save it."""
        model = self.average.model if self.average else self.model
        training = model.training
        model.eval()
        metrics = evaluate(
            on_device(
                model,
                self.team.device,
                precision=self.config.precision,
                channels_last=self.channels_last,
            ),
            self.val_set,
            self.num_classes,
            batch_size=max(1, self.config.batch_size // self.team.world),
            workers=self.config.workers,
            bad=self.bad,
            team=self.team,
        )
        model.train(training)
        self.report(
            f"step {self.step}/{self.max_iter}  validation: top-1 {metrics.top1}/{metrics.images} "
            f"({metrics.accuracy:.2%})  top-5 {metrics.top5}/{metrics.images}  "
            f"loss {metrics.loss:.4f}"
        )
        self._record(
            {"step": self.step, "val_accuracy": metrics.accuracy, "val_loss": metrics.loss}
        )
        score = (metrics.accuracy, metrics.loss)
        better = (score[0], -score[1]) > (self.best[0], -self.best[1])
        if better:
            self.best = score
        # A run killed between the two goes on from the old last.pt and writes both again; in
        # the other order it would hold its best score for saved.
        self._save(*(["best.pt"] if better else []), "last.pt")
        return metrics

    def _record(self, values: dict[str, float]) -> None:
        if not self.team.leads:
            return
        make_folder(self.out)
        append_line(self.out / "log.jsonl", values)
        if self.config.tensorboard:
            with scalar_writer()(str(self.out)) as writer:
                for name in values.keys() - {"step"}:
                    writer.add_scalar(name, values[name], int(values["step"]))

    def _save(self, *names: str) -> None:
        state = self._state()
        if self.team.leads:
            for name in names:
                save_checkpoint(self.out / name, state)

    def _state(self) -> dict[str, Any]:
        random = [torch.get_rng_state()]
        if self.team.device.type == "cuda":
            random.append(torch.cuda.get_rng_state(self.team.device))
        return {
            "architecture": self.model.architecture,
            "class_names": self.class_names,
            "preprocessing": self.val_set.transform.preprocessing.to_record(),
            "config": asdict(self.config),
            "model": self.model.state_dict(),
            "ema": self.average.model.state_dict() if self.average else None,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "max_iter": self.max_iter,
            "step": self.step,
            "images": self.images,
            "best": self.best,
            "random": self.team.gather(random),
            "bad_images": self.bad.seen,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["architecture"] != self.model.architecture:
            raise NetError(
                f"the checkpoint holds {state['architecture']}, the run is set up for "
                f"{self.model.architecture}"
            )
        self.model.load_state_dict(state["model"])
        if self.average and state["ema"]:
            self.average.model.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.best = state["step"], tuple(state["best"])
        self.images = state["images"]
        self.max_iter = self._last_step()
        self.schedule = replace(self.schedule, max_iter=self.max_iter)
        self.bad.seen.update(state["bad_images"])
        if len(state["random"]) == self.team.world:
            cpu, *cuda = state["random"][self.team.rank]
            torch.set_rng_state(cpu)
            if cuda and self.team.device.type == "cuda":
                torch.cuda.set_rng_state(cuda[0], self.team.device)
        else:
            self._seed_masks()
        self.report(f"going on after step {self.step} of {self.max_iter}")


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
