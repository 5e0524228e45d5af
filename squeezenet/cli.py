"""The ``squeezenet`` commands: options and exit codes; the work is done elsewhere.

Modules that take time to import are imported by the command that needs them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe2torch.commands import Commands, FiniteRange, RegisteredChoice, engine_choice
from caffe2torch.commands.running import progress_bar, signals
from caffe2torch.errors import ArtefactError, NetError
from caffe2torch.preprocessing import MOST_PIXELS, PROTOCOLS
from caffe2torch.training.rules import POLICIES, SOLVER_TYPES
from squeezenet.commands import (
    COUNT,
    OUTPUT,
    PATH,
    SEED,
    Parsed,
    compress,
    demo,
    mean,
    pack,
    report,
    runtime_option,
)

if TYPE_CHECKING:
    from squeezenet.config import TrainConfig


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="caffe2torch")
def main() -> None:
    """Train, evaluate and use SqueezeNet with the original Caffe weights."""


for command in (compress, demo, pack, mean):
    main.add_command(command)


Command = Callable[..., Any]


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _multiplier(text: str) -> tuple[str, float]:
    pattern, _, factor = text.rpartition("=")
    with suppress(ValueError):
        if pattern and 0 <= float(factor) < math.inf:
            return pattern, float(factor)
    raise ValueError("is not of the form 'conv10.*=10'")


def _steps(text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise ValueError("is not numbers with commas between them") from None


def _lr_scale(text: str) -> tuple[str, int]:
    from squeezenet.config import LR_RULES

    rule, _, batch = text.partition(":")
    if rule in LR_RULES and batch.isdecimal() and int(batch):
        return rule, int(batch)
    raise ValueError(
        f"is not a rule ({', '.join(LR_RULES)}), a colon and the images a step for which --lr was "
        "chosen, as in linear:256"
    )


def _number(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise ValueError("is not a finite number")


def _mean(text: str) -> tuple[float, ...] | str:
    """Three numbers, or the path of a mean image."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        return text
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError("must have three finite numbers: blue, green, red")
    return numbers


MULTIPLIER = Parsed("pattern=factor", _multiplier)
STEPS = Parsed("n,n,...", _steps)
LR_SCALE = Parsed("rule:batch", _lr_scale)
MEAN = Parsed("b,g,r|file", _mean)
NUMBER = Parsed("float", _number)
PROTOCOL = RegisteredChoice(lambda: tuple(PROTOCOLS))
POLICY = RegisteredChoice(lambda: tuple(POLICIES))
SOLVER = RegisteredChoice(lambda: tuple(SOLVER_TYPES))
DECODE = click.Choice(["exact", "reduced", "torchvision"])
DECODE_HELP = "Reduced: large JPEGs at a half or less of their size; torchvision: on the device."
POSITIVE = click.IntRange(min=1)
SIDE = click.IntRange(1, MOST_PIXELS)
FACTOR = FiniteRange(min=0)
SHARE = FiniteRange(0, 1)


def _readers(number: str) -> str:
    """The lr_policies and solver types that use a number, for its help."""
    policies = [name for name, policy in POLICIES.items() if number in policy.reads]
    types = [name for name, solver in SOLVER_TYPES.items() if number in solver.reads]
    return f"Of {', '.join(policies + types)}"


def _setting(name: str, kind: Any, text: str, **more: Any) -> Callable[[Command], Command]:
    """An option whose default is that of TrainConfig's field of the same name."""
    from squeezenet.config import TrainConfig

    field = more.pop("field", name.lstrip("-").split("/")[0].replace("-", "_"))
    default = getattr(TrainConfig(), field)
    shown = default not in (None, (), 0, 0.0) or default is False
    return click.option(
        name, field, type=kind, default=default, show_default=shown, help=text, **more
    )


_settings = _options(
    # Data.
    _setting("--data", str, "Root of the lists' paths, or a tree with train/ and val/."),
    _setting("--train-list", str, "List 'path label', tree of class folders, LMDB, or tar files."),
    _setting("--val-list", str, "The same for validation."),
    _setting("--num-classes", POSITIVE, "Number of classes; as the training data show."),
    _setting("--protocol", PROTOCOL, "How training images are cropped."),
    _setting("--val-protocol", PROTOCOL, "How validation images are cropped."),
    _setting("--area", FiniteRange(0.01, 1), "Smallest part that random-resized-crop takes."),
    _setting("--resize", SIDE, "Side to which an image is resized."),
    _setting("--crop", SIDE, "Side of the crop: the net's input."),
    _setting(
        "--mean",
        MEAN,
        "Blue,green,red, or a .binaryproto or .npy mean image.",
    ),
    _setting("--scale", NUMBER, "Factor after the mean is subtracted."),
    _setting("--mirror/--no-mirror", bool, "Mirror half of the training images."),
    _setting("--rotation", FACTOR, "Largest random rotation in degrees."),
    _setting("--jitter", SHARE, "Largest random change of brightness, contrast, saturation."),
    _setting("--decode", DECODE, DECODE_HELP.replace("JPEGs", "JPEGs for training")),
    _setting("--on-bad-image", click.Choice(["skip", "fail"]), "What an unreadable image does."),
    _setting("--workers", COUNT, "Threads that load images, in other processes; 0: the main one."),
    _setting("--seed", SEED, "Seed of everything random."),
    # Model.
    _setting("--pretrained", str, "Weights to start from; the head is new if classes differ."),
    _setting("--version", click.Choice(["1.0", "1.1"]), "Version of SqueezeNet."),
    _setting("--bypass", click.Choice(["simple", "complex"]), "Bypass connections."),
    _setting("--dropout", SHARE, "Dropout before the classifier."),
    _setting(
        "--classifier",
        click.Choice(["mixed", "random"]),
        "How a new head begins: a mixture of the old classes, or at random.",
    ),
    _setting("--freeze", str, "Pattern of parameters to leave as they are.", multiple=True),
    # Solver.
    _setting("--epochs", FiniteRange(min=0, min_open=True), "Length of the run."),
    _setting("--max-iter", COUNT, "Length in steps, instead of --epochs."),
    _setting("--batch-size", POSITIVE, "Images a pass, over all processes."),
    _setting("--iter-size", POSITIVE, "Passes whose gradients make one step."),
    _setting("--solver-type", SOLVER, "Caffe's update rule."),
    _setting("--lr", FACTOR, "Learning rate; 0.001, or 0.0002 for under 500 images."),
    _setting("--lr-scale", LR_SCALE, "Scale --lr from steps of BATCH images: linear or sqrt."),
    _setting("--schedule", POLICY, "How the rate falls (Caffe: lr_policy)."),
    _setting("--gamma", FACTOR, f"{_readers('gamma')}."),
    _setting("--power", FACTOR, f"{_readers('power')}."),
    _setting("--stepsize", COUNT, f"{_readers('stepsize')}."),
    _setting("--stepvalue", STEPS, f"{_readers('stepvalue')}: 1000,2000."),
    _setting("--warmup", COUNT, "Steps in which the rate rises from 0."),
    _setting("--momentum", FACTOR, f"{_readers('momentum')}; Adam's beta1."),
    _setting("--momentum2", FACTOR, f"{_readers('momentum2')}: its beta2."),
    _setting("--delta", FACTOR, f"{_readers('delta')}."),
    _setting("--rms-decay", SHARE, f"{_readers('rms_decay')}."),
    _setting("--weight-decay", FACTOR, "Weight decay."),
    _setting("--regularization", click.Choice(["L1", "L2"]), "Kind of weight decay."),
    _setting("--lr-mult", MULTIPLIER, "Factor of the rate: 'conv10.*=10'.", multiple=True),
    _setting("--decay-mult", MULTIPLIER, "Factor of the decay: '*.bias=0'.", multiple=True),
    _setting("--label-smoothing", SHARE, "Share of the target spread over all classes."),
    _setting("--clip", FACTOR, "Largest norm of the gradient; 0: any."),
    _setting("--ema", SHARE, "Decay of the average of the weights; 0: none."),
    # The run.
    _setting("--out", str, "Folder for last.pt, best.pt and log.jsonl."),
    _setting("--precision", click.Choice(["fp32", "bf16", "fp16"]), "Of the forward pass."),
    _setting("--channels-last/--no-channels-last", bool, "Order of memory; by default the faster."),
    _setting("--compile/--no-compile", bool, "Compile the model with torch.compile."),
    _setting("--device", click.Choice(["auto", "cpu", "cuda"]), "Where to compute."),
    _setting("--threads", click.IntRange(0, 1024), "CPU threads; 0: torch's choice."),
    _setting("--average-loss", COUNT, "Steps whose mean loss a line shows; as --log-every."),
    _setting("--log-every", POSITIVE, "Steps between lines of the log."),
    _setting("--eval-every", COUNT, "Steps between validations; an epoch if not given."),
    _setting("--snapshot", COUNT, "Steps between further writes of last.pt."),
    _setting("--tensorboard/--no-tensorboard", bool, "Write TensorBoard scalars to --out."),
)


def _settings_of(checkpoint: Path) -> TrainConfig:
    from squeezenet.checkpoint import damage_named, load_checkpoint
    from squeezenet.config import TrainConfig

    state = load_checkpoint(checkpoint)
    with damage_named(checkpoint):
        return TrainConfig.from_plain(state["config"])


@main.command()
@click.option("--solver", type=PATH, help="solver.prototxt to take the settings from.")
@click.option("--init-from", type=PATH, help="Checkpoint to go on from, settings included.")
@click.option("--resume", is_flag=True, help="Go on from last.pt in --out, once there is one.")
@_settings
@click.pass_context
def train(
    ctx: click.Context, /, solver: Path | None, init_from: Path | None, resume: bool, **values: Any
) -> None:
    """Train or fine-tune. Options given here win over --solver, and that over --init-from."""
    from squeezenet.config import TrainConfig
    from squeezenet.train import train as run

    given = {
        name: value
        for name, value in values.items()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    config = TrainConfig() if init_from is None else _settings_of(init_from)
    if resume and (last := Path(given.get("out", config.out)) / "last.pt").exists():
        init_from, config = last, replace(_settings_of(last), out=str(last.parent))
    if solver is not None:
        from caffe2torch.training.solver import warn_idle
        from squeezenet.solver import read_solver

        settings, described = read_solver(solver)
        config = replace(config, **settings)
        warn_idle(described)
    config = replace(config, **given)
    if config.crop > config.resize:
        raise NetError(f"--crop {config.crop} is larger than --resize {config.resize}")
    with signals() as requested, progress_bar() as (write, progress):
        run(config, init_from=init_from, report=write, requested=requested, progress=progress)


_evaluation = _options(
    click.option("--weights", type=PATH, required=True, help="Checkpoint, .pt, .safetensors, "
                 ".caffemodel or .onnx."),
    click.option("--engine", type=engine_choice(), default="torch",
                 show_default=True),
    click.option("--protocol", type=PROTOCOL, help="Instead of the one that the weights expect."),
    click.option("--decode", type=DECODE, default="exact", show_default=True, help=DECODE_HELP),
    click.option("--batch-size", type=POSITIVE, default=32, show_default=True),
    click.option("--workers", type=COUNT, default=2, show_default=True),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto"),
    click.option("--on-bad-image", type=click.Choice(["skip", "fail"]), default="skip",
                 show_default=True),
    click.option("--synset-words", type=PATH, help="Class names, one a line."),
)  # fmt: skip


@main.command("eval")
@click.option("--data", type=PATH, default=Path(), help="Root of the list's paths, or a tree.")
@click.option("--val-list", help="List 'path label', tree of class folders, LMDB, or tar files.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the convolutions of the engine torch.",
)
@_evaluation
def eval_(
    data: Path, val_list: str | None, as_json: bool, precision: str, weights: Path, engine: str,
    protocol: str | None, decode: str, batch_size: int, workers: int, device: str,
    on_bad_image: str, synset_words: Path | None,
) -> None:  # fmt: skip
    """Measure top-1, top-5, loss and confusions on a labelled set.

    The processes that torchrun starts share the images out.
    """
    from caffe2torch.training.distributed import join_team
    from squeezenet.classifier import evaluate_files, open_classifier

    with join_team(device) as team:
        opened = open_classifier(
            weights, engine, str(team.device), protocol, synset_words, precision, decode
        )
        metrics = evaluate_files(
            opened, data, val_list, batch_size=batch_size, workers=workers,
            on_bad_image=on_bad_image, report=report, team=team,
        )  # fmt: skip
    if not team.leads:
        return
    if as_json:
        click.echo(json.dumps(metrics.to_plain(opened.class_names), indent=1, ensure_ascii=False))
        return
    share = max(metrics.images, 1)
    click.echo(f"images    {metrics.images}")
    click.echo(f"top-1     {metrics.top1} ({metrics.top1 / share:.2%})")
    click.echo(f"top-5     {metrics.top5} ({metrics.top5 / share:.2%})")
    click.echo(f"loss      {metrics.loss:.4f}")
    click.echo(f"skipped   {metrics.bad_images}")
    names = opened.class_names
    for pair in metrics.confusions(5):
        true, taken = (names[n] if names else n for n in (pair["label"], pair["taken_for"]))
        click.echo(f"confused  {pair['images']} of {true} taken for {taken}")


@main.command()
@click.argument("images", nargs=-1)
@click.option("--top-k", type=POSITIVE, default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@click.option("--sheet", type=OUTPUT, help="Write a contact sheet to this image file.")
@_evaluation
def infer(
    images: tuple[str, ...], top_k: int, as_json: bool, as_csv: bool, sheet: Path | None,
    weights: Path, engine: str, protocol: str | None, decode: str, batch_size: int, workers: int,
    device: str, on_bad_image: str, synset_words: Path | None,
) -> None:  # fmt: skip
    """Classify IMAGES: files, folders, globs, or - for a list of files on stdin."""
    from squeezenet.classifier import open_classifier
    from squeezenet.data import BadImages
    from squeezenet.infer import FORMATS, classify, expand_inputs, write_sheet

    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other")
    paths = expand_inputs(images)
    opened = open_classifier(weights, engine, device, protocol, synset_words, decode=decode)
    bad = BadImages(on_bad_image, report)
    answers = list(
        classify(
            opened, paths, bad,
            top_k=top_k, batch_size=batch_size, workers=min(workers, len(paths) // 16),
        )
    )  # fmt: skip
    if sheet is not None and answers:
        write_sheet(sheet, answers)
    form = "json" if as_json else "csv" if as_csv else "text"
    click.echo(FORMATS[form](answers), nl=False)
    if len(bad):
        report(f"{len(bad)} of {len(paths)} images could not be used")
        if not answers:
            raise ArtefactError("no image could be classified")


@main.command()
@click.option("--version", type=click.Choice(["1.0", "1.1"]), default="1.1", show_default=True)
@click.option("--bypass", type=click.Choice(["simple", "complex"]))
@click.option("--num-classes", type=POSITIVE, default=1000, show_default=True)
@click.option("--weights", type=PATH, help="Describe this file instead.")
def info(version: str, bypass: str | None, num_classes: int, weights: Path | None) -> None:
    """Show the layers, their output sizes, parameters and multiplications."""
    from squeezenet.info import describe

    for line in describe(version, bypass, num_classes, weights):
        click.echo(line)


@main.command()
@click.option("--weights", type=PATH, required=True, help="Checkpoint or other weights.")
@click.option("--synset-words", type=PATH, help="For .html: the classes' names, one a line.")
@runtime_option
@click.argument("output", type=OUTPUT)
def export(weights: Path, synset_words: Path | None, runtime: Path | None, output: Path) -> None:
    """Write the model as OUTPUT: .onnx, .safetensors, .pt, or .caffemodel with a .prototxt.

    With .html, it is a page that classifies images in a browser, without a network.
    """
    from squeezenet.export import export as write
    from squeezenet.weights import load_model

    is_page = output.suffix == ".html"
    if not is_page and (synset_words, runtime) != (None, None):
        raise click.UsageError("--synset-words and --runtime are for an OUTPUT of .html")
    loaded = load_model(weights)
    if is_page:
        from caffe2torch.images import read_class_names
        from squeezenet.web import write_page

        if synset_words is not None:
            loaded = replace(loaded, class_names=read_class_names(synset_words))
        write_page(loaded, output, title=f"SqueezeNet v{loaded.model.version}", runtime=runtime)
        click.echo(output)
        return
    for path in write(loaded.model, loaded.transform, output):
        click.echo(path)
