"""How fast the data layers of a net feed it, without the net.

    python tools/bench_layers.py ants_bees.prototxt

For each data layer of the phase and each number of worker processes: images (or rows) a second, and
the processor time that a batch takes in this process and in those of the workers. The times say
what the path costs on a busy machine, too. Here a batch is received, centred and scaled, as
training on a CPU does; the workers read, decode, resize and cut. The net is not computed, so the
rate is the bound that the layer sets to any net. Not on Windows.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import torch

from caffe2torch.cuts import CPU
from caffe2torch.data import SOURCES, Prefetched, Source, open_source
from caffe2torch.io.prototxt import read_prototxt
from caffe2torch.passes.draft import State
from caffe2torch.training.allocator import keep_freed_memory
from caffe2torch.training.net import layers_of


class Rate(NamedTuple):
    """Items a second, and milliseconds of processor time a batch: of this process, of workers."""

    items: float
    here: float
    workers: float


def sources(path: Path, phase: str) -> Iterator[tuple[str, Source]]:
    """The data layers of a net's phase: what names them, and what they read."""
    for layer in layers_of(read_prototxt(path), State(phase)).layer:
        if layer.type in SOURCES and layer.type != "MemoryData":  # Whose data a program sets.
            yield f"{layer.name} ({layer.type})", open_source(layer, phase, folder=path.parent)


def rate(source: Source, workers: int, batches: int) -> Rate:
    """What ``batches`` batches after the first eight take; a worker's start is in its time."""
    finish = source.finisher(CPU)
    before = _children()
    loaded = Prefetched(source, workers=workers)
    for _ in range(8):
        finish(next(loaded))
    start, here = time.perf_counter(), time.process_time()
    for _ in range(batches):
        finish(next(loaded))
    seconds, here = time.perf_counter() - start, time.process_time() - here
    loaded.close()
    made = batches + 8
    return Rate(
        batches * source.shapes[0][0] / seconds,
        here / batches * 1e3,
        (_children() - before) / made * 1e3,
    )


def _children() -> float:
    """Seconds of processor time that ended processes have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@click.command()
@click.argument("net", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--phase", type=click.Choice(["TRAIN", "TEST"]), default="TRAIN", show_default=True)
@click.option("--batches", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--workers", "counts", multiple=True, default=(0, 1, 2), show_default=True)
def main(net: Path, phase: str, batches: int, counts: tuple[int, ...]) -> None:
    """Print the figures."""
    keep_freed_memory()  # As training does.
    torch.set_num_threads(1)
    for name, source in sources(net, phase):
        click.echo(f"{name}: batches of {source.shapes[0]}")
        for workers in counts:
            found = rate(source, workers, batches)
            click.echo(
                f"  {workers} workers: {found.items:7.0f} a second; a batch takes {found.here:.1f} "
                f"ms here, {found.workers:.1f} ms in workers"
            )


if __name__ == "__main__":
    main()
