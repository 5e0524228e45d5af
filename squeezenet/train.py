"""Training of SqueezeNet: the whole of a run, from settings to checkpoints, top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import NetError, ReadError
from caffe2torch.training.distributed import Team, join_team
from caffe2torch.training.log import Records
from caffe2torch.training.loop import Action, DivergedError, Loop
from caffe2torch.training.optimisers import WeightAverage
from caffe2torch.training.precision import mixed
from squeezenet.checkpoint import (
    damage_named,
    load_checkpoint,
    make_folder,
    save_checkpoint,
)
from squeezenet.config import TrainConfig
from squeezenet.data import BadImages, Batch, ImageDataset, checked, load_batches, train_batches
from squeezenet.evaluate import Metrics, evaluate, on_device
from squeezenet.feed import Feed
from squeezenet.head import mix_classifier
from squeezenet.parts import check_out, make_model, make_optimiser, make_schedule, open_data


def train(
    config: TrainConfig,
    *,
    init_from: Path | None = None,
    report: Callable[[str], None] = print,
    requested: Callable[[], Action] = lambda: Action.NONE,
    progress: Callable[[int, int], None] = lambda step, end: None,
) -> Metrics | None:
    """Train as the settings say and return how the last model does on the validation set.

    ``init_from`` is a checkpoint to go on from: model, optimiser, average, random state and
    position in the data are restored, so the outcome is that of a run never interrupted. With
    another number of processes, too, each image of an epoch moves the model once; sums are
    rounded otherwise then, and dropout takes other masks.
    ``out/last.pt`` and ``out/best.pt`` are written, and ``out/log.jsonl`` gets a line for
    each line of the log. ``requested`` is asked after each step: a stop writes ``last.pt`` and ends
    the run, whose result is that of the last validation then, None if there was none. ``progress``
    gets the step and the last one after each.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with join_team(config.device) as team:
        if not team.leads:
            report = _silent
        return _Run(config, team, report, requested, progress).go(init_from)


def _silent(message: str) -> None:
    """What the processes that do not lead say."""


class _Run(Loop):
    """SqueezeNet's training: its data, model, loss, precision, validation and checkpoints.

    The loop is that of ``caffe2torch train``; ``iteration`` is the step.
    """

    def __init__(
        self,
        config: TrainConfig,
        team: Team,
        report: Callable[[str], None],
        requested: Callable[[], Action],
        progress: Callable[[int, int], None],
    ) -> None:
        self.config, self.report = config, report
        self.out = Path(config.out)
        if team.leads:
            check_out(self.out)
        torch.manual_seed(config.seed)
        self.train_set, self.val_set, self.num_classes, self.class_names = open_data(config, team)
        self.bad = BadImages(config.on_bad_image, report)
        images = len(self.train_set)
        self.eval_every = config.eval_every or math.ceil(images / config.images_per_step)
        self.images = 0
        """The position in the data: images of the stream that the steps so far have taken."""
        super().__init__(
            make_schedule(config, images, self._last_step(0)),
            iter_size=config.iter_size,
            average_loss=config.average_loss or config.log_every,
            snapshot_interval=config.snapshot,
            team=team,
            requested=requested,
            progress=progress,
        )
        self.model, self.old_classifier, self.channels_last = make_model(
            config, self.num_classes, team.device, report
        )
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.optimiser = make_optimiser(config, self.model)
        if team.rank:
            self._seed_masks()
        self.scaler = torch.amp.GradScaler(team.device.type, enabled=config.precision == "fp16")
        self.best = (-1.0, math.inf)
        self.metrics: Metrics | None = None
        self._saved = -1
        self.records = Records()
        if team.leads:
            self.records = Records(self.out / "log.jsonl", self.out if config.tensorboard else None)

    def _last_step(self, done: int) -> int:
        """Where the run ends: the images of ``epochs`` that are left may come in other batches."""
        config = self.config
        # Rounded, so that a fraction of an epoch counts the same wherever it is counted from.
        left = round(config.epochs * len(self.train_set) - self.images, 6)
        return config.max_iter or max(1, done + math.ceil(left / config.images_per_step))

    def _seed_masks(self) -> None:
        """Set the random state of dropout, whose masks are each process's own."""
        place = (self.config.seed, self.iteration, self.team.rank)
        torch.manual_seed(int(np.random.default_rng(place).integers(2**63)))

    def go(self, init_from: Path | None) -> Metrics | None:
        """Train from the first step, or from the one a checkpoint was written after."""
        if init_from is not None:
            state = load_checkpoint(init_from)
            with damage_named(init_from):
                self._restore(state)
        elif self.old_classifier is not None and self.config.classifier == "mixed":
            self._begin_classifier(self.old_classifier)
        if len(set(steps := self.team.gather(self.iteration))) > 1:
            raise ReadError(
                f"the processes go on from different steps, {min(steps)} to {max(steps)}: --out "
                "has to be one folder for all machines"
            )
        self.forward = torch.compile(self.model) if self.config.compile else self.model
        self.model.train()
        self.batches = self._train_batches()
        with closing(self.records):
            self.step(self.schedule.max_iter - self.iteration)
            if self.stopped:
                self.snapshot()
                self.report(
                    f"stopped after step {self.iteration} of {self.end}: go on with --init-from "
                    f"{self.out / 'last.pt'}"
                )
            elif self.metrics is None:
                self._validate()
        if len(self.bad):
            self.report(f"{len(self.bad)} bad images were skipped; each is named above")
        return self.metrics

    def _begin_classifier(self, old: nn.Conv2d) -> None:
        """Fill the new classifier with what the old one knows of the training images."""
        config, new = self.config, self.model.conv10
        self.model.conv10 = old.to(self.team.device)
        predict = on_device(
            self.model.eval(),
            self.team.device,
            precision=config.precision,
            channels_last=self.channels_last,
        )
        images = ImageDataset(self.train_set.source, self.val_set.transform, seed=None)
        size = max(1, config.batch_size // self.team.world)
        mix_classifier(
            new, old, predict, images,
            batch_size=size, workers=config.workers, bad=self.bad, team=self.team,
        )  # fmt: skip
        self.model.conv10 = new
        if self.average:
            self.average.model.load_state_dict(self.model.state_dict())

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
        batches = load_batches(self.train_set, draws, workers=config.workers, device=team.device)
        feed = Feed(self.train_set.transform, team.device, channels_last=self.channels_last)
        return feed(checked(batches, self.train_set, self.num_classes, self.bad))

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those that are not frozen."""
        return (p for group in self.optimiser.param_groups for p in group["params"])

    def clear_gradients(self) -> None:
        """Forget all gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def forward_backward(self) -> Tensor:
        """One pass on this process's part of a batch; its summed loss and its number of images.

        The gradients of all passes and processes are the gradient of the mean over the images of a
        step, to which bad images add nothing.
        """
        batch = next(self.batches)
        loss = self._loss(batch)
        # The mean over the processes follows.
        share = self.team.world / self.config.images_per_step
        self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]  # untyped in torch
        loss = loss.detach()
        return torch.stack([loss, loss.new_full((), len(batch.labels))])

    def update(self) -> None:
        """Caffe's rule; in fp16 on gradients scaled back, and not where they have overflown."""
        self.optimiser.set_rate(self.rate)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            self.average.update(self.model, self.iteration)
        self.images += self.config.images_per_step

    def after_update(self) -> None:
        """Log and validate where that is due, and at the end."""
        last = self.iteration == self.end
        if last or self.due(self.config.log_every):
            self._log()
        if last or self.due(self.eval_every):
            self._validate()

    def snapshot(self) -> None:
        """Write ``last.pt``, unless it has been written after this step."""
        if self._saved != self.iteration:
            self._save("last.pt")

    def why_not_finite(self) -> str:
        """What the loss has been computed from."""
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            return f"the weights of {self.config.pretrained} are not finite: take others"
        return (
            "the images are not finite after --mean and --scale, or too large for the weights: "
            "correct these, or, with --precision fp16, take bf16"
        )

    def _loss(self, batch: Batch) -> Tensor:
        """The summed cross-entropy of a batch."""
        config, device = self.config, self.team.device
        images, labels = batch.images, batch.labels
        if not len(labels):
            # With nothing to learn from, gradients are 0: the loss scaler wants some.
            images = torch.zeros(1, 3, config.crop, config.crop, device=device)
            labels = torch.full((1,), -100, device=device)
        with mixed(device, config.precision):
            logits = self.forward(images)
        return F.cross_entropy(
            logits.float(),
            labels,
            reduction="sum",
            label_smoothing=config.label_smoothing,
        )

    def _log(self) -> None:
        config = self.config
        loss, images = self.team.sum(self.smoothed.clone()).tolist()
        if images * self.average_loss * self.iter_size < 0.5:  # 0, but for roundings.
            raise ReadError(
                f"none of the images of the last {min(self.average_loss, self.iteration)} steps "
                f"could be used, up to step {self.iteration}: correct --data and --train-list"
            )
        loss /= images
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {self.iteration}: the training has diverged; lower "
                f"--lr (now {self.rate:.4g}) or set --clip or --warmup"
            )
        seconds, steps = self.lapse()
        speed = steps * config.images_per_step / seconds
        epoch = self.images / len(self.train_set)
        self.report(
            f"step {self.iteration}/{self.end}  epoch {epoch:.2f}  loss {loss:.4f}  "
            f"lr {self.rate:.4g}  {speed:.1f} images/s"
        )
        self._record({"epoch": epoch, "loss": loss, "lr": self.rate, "speed": speed})

    def _validate(self) -> None:
        """Measure the model that would be used (the average, if one is kept) and save it."""
        model = self.average.model if self.average else self.model
        training = model.training
        model.eval()
        self.metrics = metrics = evaluate(
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
            f"step {self.iteration}/{self.end}  validation: top-1 {metrics.top1}/{metrics.images} "
            f"({metrics.accuracy:.2%})  top-5 {metrics.top5}/{metrics.images}  "
            f"loss {metrics.loss:.4f}"
        )
        self._record({"val_accuracy": metrics.accuracy, "val_loss": metrics.loss})
        score = (metrics.accuracy, metrics.loss)
        better = (score[0], -score[1]) > (self.best[0], -self.best[1])
        if better:
            self.best = score
        # A run killed between the two goes on from the old last.pt and writes both again; in
        # the other order it would hold its best score for saved.
        self._save(*(["best.pt"] if better else []), "last.pt")

    def _record(self, values: dict[str, float]) -> None:
        if self.team.leads:
            make_folder(self.out)
            self.records.write(self.iteration, {"step": self.iteration, **values}, values)

    def _save(self, *names: str) -> None:
        self._saved, state = self.iteration, self._state()
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
            "max_iter": self.schedule.max_iter,
            "step": self.iteration,
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
        self.iteration, self.best = state["step"], tuple(state["best"])
        self.images = state["images"]
        self.schedule = replace(self.schedule, max_iter=self._last_step(self.iteration))
        self.current_step = self.schedule.current_step(self.iteration - 1)
        self.bad.seen.update(state["bad_images"])
        if len(state["random"]) == self.team.world:
            cpu, *cuda = state["random"][self.team.rank]
            torch.set_rng_state(cpu)
            if cuda and self.team.device.type == "cuda":
                torch.cuda.set_rng_state(cuda[0], self.team.device)
        else:
            self._seed_masks()
        self.report(f"going on after step {self.iteration} of {self.schedule.max_iter}")
