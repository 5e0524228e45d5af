"""How fast, and in how much memory, the images of a large set are known and loaded.

    python tools/bench_data.py --data shared/ants_bees

A list, a tree of class folders and an LMDB of so many images are made and opened, each in a
process of its own: the seconds, and the private memory that this adds to the process. The images
of the list and the LMDB are one, those of the tree are empty files: only names, labels and keys
are read.

With ``--data`` training is fed from there by 1 and by ``--workers`` workers; the memory is the sum
of all processes' proportional set sizes, in which a page that several share counts once.
Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import click

IMAGENET = 1_281_167
CLASSES = 1000
PROGRAM = """
import json, sys, time
from pathlib import Path
import torch, lmdb
from tools.bench_data import private_mb
from squeezenet.sources import open_split
before, start = private_mb(), time.perf_counter()
split = open_split(Path(sys.argv[1]), sys.argv[2], "train")
seconds = time.perf_counter() - start
print(json.dumps([len(split.source), seconds, private_mb() - before]))
"""
"""Opens what is to train: arguments are --data and --train-list."""


def private_mb() -> float:
    """The memory of this process that is its own."""
    return _smaps("self", "Private_Clean", "Private_Dirty")


def _smaps(pid: int | str, *fields: str) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(fields)) / 1000


def make_list(folder: Path, images: int) -> str:
    """``list.txt`` in the order of the classes, with ImageNet's names."""
    (folder / "train").mkdir()
    with open(folder / "list.txt", "w") as file:
        for number in range(images):
            label = number * CLASSES // images
            name = f"train/n{label:08d}/n{label:08d}_{number}.JPEG"
            if not number:
                (folder / name).parent.mkdir()
                (folder / name).touch()
            file.write(f"{name} {label}\n")
    return "list.txt"


def make_tree(folder: Path, images: int) -> str:
    """``tree/class/image``."""
    for label in range(CLASSES):
        (folder / "tree" / f"n{label:08d}").mkdir(parents=True)
    for number in range(images):
        label = number * CLASSES // images
        (folder / "tree" / f"n{label:08d}" / f"n{label:08d}_{number}.JPEG").touch()
    return "tree"


def make_lmdb(folder: Path, images: int) -> str:
    """``lmdb``, whose values are Datums of one grey pixel."""
    import lmdb

    from caffe2torch.io.schema import message_class

    value = message_class("Datum")(channels=1, height=1, width=1, data=b"\0").SerializeToString()
    with lmdb.open(str(folder / "lmdb"), map_size=2**34) as made, made.begin(write=True) as txn:
        for number in range(images):
            key = f"{number:08d}_n{number * CLASSES // images:08d}_{number}.JPEG"
            txn.put(key.encode(), value, append=True)
    return "lmdb"


KINDS: dict[str, Callable[[Path, int], str]] = {
    "list": make_list,
    "class folders": make_tree,
    "LMDB": make_lmdb,
}


def opened(images: int) -> dict[str, tuple[float, float]]:
    """Seconds and MB of opening each kind of set."""
    found = {}
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for kind, make in KINDS.items():
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, "-c", PROGRAM, name, make(Path(name), images)]
            run = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=False
            )
            if run.returncode:
                raise click.ClickException(f"{kind}: {run.stderr.strip()[-500:]}")
            count, seconds, megabytes = json.loads(run.stdout)
            assert count == images, (kind, count)
            found[kind] = seconds, megabytes
    return found


def loading_mb(data: Path, workers: int, batches: int) -> float:
    """The proportional set sizes of this process and its workers, while they load."""
    import torch

    from squeezenet.config import TrainConfig
    from squeezenet.data import ImageDataset, load_batches, train_batches
    from squeezenet.parts import make_transform
    from squeezenet.sources import open_split

    config = replace(TrainConfig(), batch_size=32)
    transform = make_transform(config, config.protocol)
    dataset = ImageDataset(open_split(data, None, "train").source, transform, seed=0)
    draws = train_batches(len(dataset), config.batch_size, seed=0)
    stream = load_batches(dataset, draws, workers=workers, device=torch.device("cpu"))
    largest = 0.0
    for _ in range(batches):
        next(stream)
        processes = [os.getpid(), *(child.pid for child in active_children() if child.pid)]
        largest = max(largest, sum(_smaps(pid, "Pss:") for pid in processes))
    return largest


@click.command()
@click.option("--images", default=IMAGENET, show_default=True, help="Of the lists.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="To load images from.")
@click.option("--workers", default=16, show_default=True, help="To compare with one.")
@click.option("--batches", default=60, show_default=True, help="To load with each number.")
@click.option("--loading", hidden=True, type=int)
def main(images: int, data: Path | None, workers: int, batches: int, loading: int | None) -> None:
    """Print the figures."""
    if data is not None and loading is not None:
        click.echo(json.dumps(loading_mb(data, loading, batches)))
        return
    for kind, (seconds, megabytes) in opened(images).items():
        click.echo(f"{kind:16} {images:,} images: {seconds:.2f} s, {megabytes:.0f} MB")
    if data is None:
        return
    sums = []
    for count in (1, workers):
        # In a process of its own, which has nothing of the other's.
        command = [sys.executable, __file__, "--data", str(data), "--batches", str(batches)]
        run = subprocess.run(
            [*command, "--loading", str(count)], stdout=subprocess.PIPE, text=True, check=True
        )
        sums.append(float(run.stdout))
        click.echo(f"{count:2} workers, and the process that trains: {sums[-1]:.0f} MB")
    click.echo(f"{sums[1] / sums[0]:.2f} times the memory of one")


if __name__ == "__main__":
    main()
