"""Where the time of training goes: images/s of each stage, of all together, and of the limit.

    python tools/bench_train.py --data shared/ants_bees --seconds 10

Each row is timed for so many seconds, in ``--rounds`` parts that take turns with all other rows,
so that what else the machine does in the meantime changes no comparison.

The stages of loading are those of one core, in processor time: read, decode, resize and cut are
the calls of NumPy and OpenCV alone, each on images that are at hand. ``loading, one core`` makes
batches of files as a worker does; its limit is an image a sum of the three times, as the pixels
must be OpenCV's to the last bit. The rest is as in a run, in time on the clock: loading
with the workers, the model on one batch that stays in memory, and training, which is both, from
the image files, and from an LMDB and tar files of raw pixels that are made of them first. While
the model computes on a CPU it shares the cores with the workers, so the limit there is
1 / (1/loading + 1/model) where each was measured with all cores; on a GPU it is the smaller one.

``--torchvision PYTHON`` names the Python of another environment, one with torchvision in it:
its loader, its squeezenet1_1 and both together are measured there, in turns with the others, and
timm's loader where that has it.
``--plot FILE`` draws the time that an image takes in each part (matplotlib: the extra ``report``).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle, islice, repeat
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from caffe2torch.commands import OutputFile
from caffe2torch.errors import Caffe2TorchError
from caffe2torch.images import ImageList, decode_image, read_list
from caffe2torch.training.allocator import keep_freed_memory
from caffe2torch.training.distributed import choose_device
from caffe2torch.training.optimisers import CaffeOptimiser
from caffe2torch.training.precision import mixed
from squeezenet.config import TrainConfig
from squeezenet.data import BadImages, Batch, ImageDataset, load_batches, train_batches
from squeezenet.feed import Feed
from squeezenet.model import SqueezeNet
from squeezenet.pack import Packing, pack
from squeezenet.parts import make_transform
from squeezenet.sinks import DatabaseSink, ShardSink, Sink
from squeezenet.sources import FileSource, open_files, open_split

Rates = dict[str, float]
Step = Callable[[Any, Any], None]
"""A training step on images and labels."""

Timer = Callable[[float], tuple[int, float]]
"""Times a row for so many seconds: its images, and the seconds they took."""
AT_HAND = 8
"""Batches that workers have ready, or have begun, where nobody took any for a while."""
LINES = 100_000
"""Of the list whose reading is timed."""
SAMPLE = 200
"""Images that the stages of loading are timed on."""
FORMS: dict[str, dict[str, Any]] = {
    "fp32": {"channels_last": False},
    "fp32, channels last": {"channels_last": True},
    "bf16, channels last": {"channels_last": True, "precision": "bf16"},
}
"""Of the model's step; the settings are TrainConfig's."""
BAR = 40
"""Characters of the longest bar."""
STAGES = ("read", "decode", "resize and cut")
"""Of loading from files."""


def timer(
    work: Callable[[], int],
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
    warmup: int = 1,
) -> Timer:
    """A timer of repeated work that returns its number of images."""

    def time_it(seconds: float) -> tuple[int, float]:
        for _ in range(warmup):
            work()
        _wait(device)
        images, start = 0, clock()
        while clock() - start < seconds:
            images += work()
            _wait(device)
        return images, clock() - start

    return time_it


def in_turns(timers: dict[str, Timer], seconds: float, rounds: int) -> Rates:
    """Images/s of all rows, each timed for ``seconds`` in so many parts."""
    images, times = dict.fromkeys(timers, 0), dict.fromkeys(timers, 0.0)
    for _ in range(rounds):
        for name, time_it in timers.items():
            done, took = time_it(seconds / rounds)
            images[name] += done
            times[name] += took
    return {name: images[name] / times[name] for name in timers}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def stages(images: ImageList, config: TrainConfig, listing: Path) -> dict[str, Timer]:
    """What one core does for one batch after another, stage by stage, in processor time."""
    cpu = torch.device("cpu")
    cv2.setNumThreads(1)
    paths = [sample.path for sample in images[:SAMPLE]]
    files = [np.fromfile(path, np.uint8) for path in paths]
    decoded = []
    for path, file in zip(paths, files, strict=True):
        try:
            decoded.append(decode_image(file, str(path)))
        except Caffe2TorchError:
            continue  # Sets of the world have files that are no images.
    transform = make_transform(config, config.protocol)
    rng = np.random.default_rng(0)
    dataset = ImageDataset(FileSource(images), transform, seed=0)
    shape, dtype = dataset.form(config.batch_size)
    rows = np.empty(shape, dtype)
    numbers = cycle(range(len(paths)))
    good, next_path, next_file = cycle(decoded), cycle(paths), cycle(files)

    def decode() -> int:
        cv2.imdecode(next(next_file), cv2.IMREAD_COLOR)
        return 1

    def read() -> int:
        np.fromfile(next(next_path), np.uint8)
        return 1

    def cut() -> int:
        transform.cut(next(good), rng)
        return 1

    def load() -> int:
        draws = [(0, number) for number in islice(numbers, len(rows))]
        return len(dataset.batch(draws, rows).labels)

    listing.write_text("".join(f"n01440764/n01440764_{n}.JPEG 7\n" for n in range(LINES)))
    works = {"list": lambda: len(read_list(listing, Path()))}
    works |= {"read": read, "decode": decode, "resize and cut": cut, "loading, one core": load}
    return {name: timer(work, cpu, time.process_time) for name, work in works.items()}


def batches(config: TrainConfig, data: Path, name: str) -> Iterator[Batch]:
    """An endless stream of batches as training gets them, on the CPU."""
    dataset = ImageDataset(
        open_split(data, None, name).source, make_transform(config, config.protocol), seed=0
    )
    draws = train_batches(len(dataset), config.batch_size, seed=0)
    device = choose_device(config.device)
    return load_batches(dataset, draws, workers=config.workers, device=device)


def make_step(config: TrainConfig, device: torch.device) -> Step:
    """One training step."""
    model: nn.Module = SqueezeNet(config.version).to(device).train()
    if config.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types the method without it
    optimiser = CaffeOptimiser(model.parameters(), lr=1e-5, momentum=0.9, weight_decay=2e-4)
    forward = torch.compile(model) if config.compile else model

    def step(images: Any, labels: Any) -> None:
        optimiser.zero_grad(set_to_none=True)
        with mixed(device, config.precision):
            logits = forward(images)
        torch.autograd.backward(F.cross_entropy(logits.float(), labels))
        optimiser.step()

    return step


def own_timers(
    config: TrainConfig, forms: dict[str, dict[str, Any]], folder: Path
) -> dict[str, Timer]:
    """All rows of this package; ``folder`` takes what is packed of the images first."""
    device, cpu = choose_device(config.device), torch.device("cpu")
    if device == cpu:
        keep_freed_memory()  # As training does.
    data = Path(config.data)
    images = open_files(data, "train")
    timers = stages(images, config, folder / "list.txt")
    transform = make_transform(config, config.protocol)
    bad = BadImages("skip", lambda _: None)
    places = {"files": (data, "train")}
    sinks: dict[str, tuple[Sink, str | None]] = {
        "LMDB": (DatabaseSink(folder / "lmdb"), None),
        "tar files": (ShardSink(folder / "%d.tar"), "bmp"),
    }
    for kind, (sink, encoded) in sinks.items():
        packing = Packing((config.resize, config.resize), encoded=encoded, shuffle=True)
        pack(images, sink, packing, workers=config.workers, bad=bad, report=lambda _: None)
        places[kind] = Path(str(sink)), "."
    for kind, place in places.items():
        timers[f"loading, {kind}"] = timer(taking(batches(config, *place)), cpu, warmup=AT_HAND)
    batch = next(batches(config, *places["LMDB"]))
    timers["feed"] = timer(taking(Feed(transform, device)(repeat(batch))), device)
    for form, changes in forms.items():
        changed = replace(config, **changes)
        step = make_step(changed, device)
        feed = Feed(transform, device, channels_last=bool(changed.channels_last))
        timers[f"model {form}"] = timer(taking(repeat(*feed([batch])), step), device)
        for kind, place in places.items():
            work = taking(feed(batches(config, *place)), step)
            timers[f"training {form}, {kind}"] = timer(work, device)
    return timers


def taking(stream: Iterator[Batch], step: Step = lambda *_: None) -> Callable[[], int]:
    """Work that takes a batch of the stream, makes a step with it and returns its size."""

    def work() -> int:
        batch = next(stream)
        step(batch.images, batch.labels)
        return len(batch.labels)

    return work


def limits(rates: Rates, device: torch.device) -> dict[str, tuple[float, float]]:
    """What loading and training could reach at most, and the share that they did, by row."""
    found = {}
    if "loading, one core" in rates:
        limit = 1 / sum(1 / rates[stage] for stage in STAGES)
        found["loading, one core"] = limit, rates["loading, one core"] / limit
    for name, reached in rates.items():
        if name.startswith("training "):
            form, _, kind = name.removeprefix("training ").rpartition(", ")
            loading, model = rates[f"loading, {kind}"], rates[f"model {form}"]
            one_device = device.type == "cpu"
            limit = 1 / (1 / loading + 1 / model) if one_device else min(loading, model)
            found[name] = (limit, reached / limit)
    return found


@contextmanager
def torchvision_timers(python: str, config: TrainConfig) -> Iterator[dict[str, Timer]]:
    """The same of torchvision and timm, in a process of their own environment."""
    device = choose_device(config.device).type
    arguments = (config.batch_size, config.workers, config.crop, device)
    script, folder = Path(__file__).with_name("bench_torchvision.py"), Path(config.data) / "train"
    with tempfile.TemporaryFile("w+") as errors, subprocess.Popen(
        [python, str(script), str(folder), *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
    ) as process:  # fmt: skip
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def answer() -> Any:
            line = answers.readline()
            if not line:
                errors.seek(0)
                raise click.ClickException(f"{python} {script}: {errors.read().strip()[-300:]}")
            return json.loads(line)

        def ask(name: str, seconds: float) -> tuple[int, float]:
            print(json.dumps([name, seconds]), file=questions, flush=True)
            images, took = answer()
            return images, took

        yield {name: partial(ask, name) for name in answer()}
        questions.close()


def table(rates: Rates, found: dict[str, tuple[float, float]]) -> Iterator[str]:
    """A row a rate, and a bar as long as the time that an image takes."""
    yield f"{'':34} {'images/s':>10} {'ms':>8}"
    longest = max(1 / value for value in rates.values())
    for name, value in rates.items():
        bar = "#" * round(BAR / value / longest)
        limit, share = found.get(name, (0.0, 0.0))
        note = f"{share:.0%} of the limit, {limit:.0f}" if name in found else ""
        yield f"{name:34} {value:10.0f} {1000 / value:8.3f}  {bar:{BAR}} {note}".rstrip()


def plot(rates: Rates, marks: dict[str, float], title: str, workers: int, path: Path) -> None:
    """Draw the milliseconds an image of all parts but the list, with ``marks`` as lowest times.

    Loading from files is split into its stages, whose processor time the workers share out.
    """
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "caffe2torch"
    from matplotlib import pyplot

    names = [name for name in rates if name not in (*STAGES, "list")]
    steps = [name for name in names if "model" in name or "training" in name]
    panels = [[name for name in names if name not in steps], steps]
    sizes = [len(panel) + 2 for panel in panels]
    figure, both = pyplot.subplots(
        2, figsize=(10, 0.3 * sum(sizes)), height_ratios=sizes, layout="constrained"
    )
    for axes, panel in zip(both, panels, strict=True):
        for place, name in enumerate(panel):
            whole, begun = 1000 / rates[name], 0.0
            if name == "loading, files":
                for number, stage in enumerate(STAGES):
                    part = 1000 / rates[stage] / max(workers, 1)
                    axes.barh(place, part, left=begun, color=f"C{number + 1}", label=stage)
                    begun += part
            axes.barh(place, max(whole - begun, 0), left=begun, color="C0")
            axes.text(max(whole, begun), place, f" {rates[name]:,.0f} images/s", va="center")
            if name in marks:
                axes.vlines(1000 / marks[name], place - 0.4, place + 0.4, "k")
        axes.set_yticks(range(len(panel)), panel)
        axes.invert_yaxis()
        axes.margins(x=0.45)  # For the legend.
    both[1].vlines([], [], [], "k", label="least time that the parts allow")
    both[1].set_xlabel("milliseconds an image")
    both[0].set_title(title, fontsize="medium")
    for axes in both:
        axes.legend(loc="right")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


@click.command()
@click.option("--data", required=True, help="Tree with train/class/image.")
@click.option("--seconds", default=10.0, show_default=True, help="For each row.")
@click.option("--rounds", default=4, show_default=True, help="Parts of these seconds.")
@click.option("--batch-size", default=32, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--threads", default=0, help="CPU threads of the model; 0: torch's choice.")
@click.option("--compile", "compiled", is_flag=True, help="Compiled models, too: takes minutes.")
@click.option("--device", default="auto")
@click.option("--torchvision", metavar="PYTHON", help="Of an environment with torchvision.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option("--plot", "drawing", type=OutputFile(path_type=Path), help="Draw the times there.")
def main(
    data: str, seconds: float, rounds: int, batch_size: int, workers: int, threads: int,
    compiled: bool, device: str, torchvision: str | None, as_json: bool, drawing: Path | None,
) -> None:  # fmt: skip
    """Print the rates."""
    if threads:
        torch.set_num_threads(threads)
    config = replace(
        TrainConfig(), data=data, batch_size=batch_size, workers=workers, device=device
    )
    forms = dict(FORMS)
    if compiled:
        forms |= {f"{form}, compiled": {**FORMS[form], "compile": True} for form in FORMS}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        timers = own_timers(config, forms, Path(folder))
        if torchvision:
            timers |= stack.enter_context(torchvision_timers(torchvision, config))
        rates = in_turns(timers, seconds, rounds)
    chosen = choose_device(device)
    name = torch.cuda.get_device_name() if chosen.type == "cuda" else "CPU"
    found = limits(rates, chosen)
    title = f"{name}, {torch.get_num_threads()} threads, {workers} workers, batches of {batch_size}"
    if drawing:
        marks = {name: limit for name, (limit, _) in found.items()}
        plot(rates, marks, title, workers, drawing)
    if as_json:
        report = {key: round(value, 1) for key, value in rates.items()}
        click.echo(json.dumps({"device": name, "threads": torch.get_num_threads(), **report}))
        return
    click.echo(title)
    for line in table(rates, found):
        click.echo(line)


if __name__ == "__main__":
    main()
