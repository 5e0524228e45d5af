"""What tools/bench_gpu.py measures: each row's work, prepared when its turn comes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caffe2torch.errors import ReadError
from caffe2torch.training.optimisers import CaffeOptimiser
from squeezenet.decode import DeviceDecoder, pack
from squeezenet.feed import Feed
from squeezenet.jpeg import plain_jpeg
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import CROP, Transform

Work = Callable[[], float]
"""Does a piece of work and returns how much it was, in the row's unit."""

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Of automatic casts; "fp32" and "tf32" have none."""
PHOTOGRAPH = (375, 500)
"""Height and width of the synthetic photographs: ImageNet's mean."""
SIDE = {"cuda": 8192, "cpu": 1024}
"""Of the matrices whose product shows the limit of the arithmetic."""
BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
"""That are copied to show the limit of memory and bus."""


class MissingError(Exception):
    """Why a row cannot be measured on this machine."""


class Batch(NamedTuple):
    """What ``squeezenet.data.Batch`` has for ``Feed``; that module needs further packages."""

    images: Tensor
    places: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Form:
    """How the net is computed."""

    precision: str
    channels_last: bool = False
    compiled: str = ""
    """The mode of torch.compile."""
    graphed: bool = False
    tuned: bool = False
    """cuDNN tries its algorithms out first."""

    @property
    def name(self) -> str:
        """All of it in words."""
        words = {"channels last": self.channels_last, "cuDNN tuned": self.tuned}
        words |= {"compiled": self.compiled == "default", "CUDA graph": self.graphed}
        words["compiled with CUDA graphs"] = self.compiled == "reduce-overhead"
        return ", ".join([self.precision, *(word for word, is_so in words.items() if is_so)])


FORMS = (
    *(Form(precision, last) for precision in ("fp32", "tf32", *DTYPES) for last in (False, True)),
    Form("bf16", True, tuned=True),
    Form("bf16", True, graphed=True),
)
COMPILED = tuple(Form("bf16", True, compiled=mode) for mode in ("default", "reduce-overhead"))


class Bench:
    """The rows, each a function that prepares its work; a row's unit is its dictionary's."""

    def __init__(self, device: torch.device, batch_size: int) -> None:
        self.device, self.size = device, batch_size
        self.on_gpu = device.type == "cuda"
        rng = np.random.default_rng(0)
        pixels = torch.from_numpy(rng.integers(0, 256, (batch_size, CROP, CROP, 3), np.uint8))
        places = torch.from_numpy(rng.integers(0, 2, (batch_size, 3)))
        labels = torch.from_numpy(rng.integers(0, 1000, batch_size))
        held = Batch(pixels, places, labels)
        self.host = Batch(*(t.pin_memory() for t in held)) if self.on_gpu else held
        # Noise would make the files larger than photographs are, a plain ramp smaller.
        coarse = rng.integers(0, 256, (48, 64, 3), np.uint8)
        image = cv2.resize(coarse, PHOTOGRAPH[::-1], interpolation=cv2.INTER_CUBIC)
        self.jpeg = cv2.imencode(".jpg", image)[1]

    def rows(self) -> Iterator[tuple[str, str, Callable[[], Work]]]:
        """Name, unit and preparation, what matters most first."""
        for form in FORMS:
            yield f"train {form.name}", "images/s", lambda f=form: self.training(f)  # type: ignore[misc]  # mypy infers no default
        best = Form("bf16", True)
        yield "copy and centre bytes", "images/s", self.feeding
        yield f"train {best.name}, fed", "images/s", lambda: self.training(best, fed=True)
        for form in (Form("fp32"), Form("tf32"), best):
            yield f"classify {form.name}", "images/s", lambda f=form: self.classifying(f)  # type: ignore[misc]  # as above
        for kind in ("Caffe's SGD", "torch foreach", "torch fused"):
            yield f"update by {kind}", "steps/s", lambda k=kind: self.updating(k)  # type: ignore[misc]  # as above
        yield "decode, one core", "images/s", self.decoding
        yield "decode, all cores", "images/s", self.decoding_on_all
        yield "decode, resize and cut by torchvision", "images/s", self.decoding_on_device
        for precision in ("fp32", "tf32", *DTYPES):
            yield f"matrices {precision}", "GFLOP/s", lambda p=precision: self.multiplying(p)  # type: ignore[misc]  # as above
        yield "memory, read and write", "GB/s", self.moving
        yield "bus, from pinned memory", "GB/s", self.sending
        # Compiling takes minutes.
        for form in COMPILED:
            yield f"train {form.name}", "images/s", lambda f=form: self.training(f)  # type: ignore[misc]  # as above
        form = COMPILED[0]
        yield f"classify {form.name}", "images/s", lambda: self.classifying(form)

    def wait(self) -> None:
        """Let the GPU finish."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def _set_precision(self, precision: str) -> None:
        if not self.on_gpu and precision in ("tf32", "fp16"):
            raise MissingError("only on a GPU")
        if precision == "bf16" and self.on_gpu and not torch.cuda.is_bf16_supported():
            raise MissingError("this GPU has no bf16")
        tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32

    def _casts(self, precision: str, **more: Any) -> torch.autocast:
        return torch.autocast(
            self.device.type, DTYPES.get(precision), enabled=precision in DTYPES, **more
        )

    def _model(self, form: Form) -> SqueezeNet:
        self._set_precision(form.precision)
        torch.backends.cudnn.benchmark = form.tuned
        order = torch.channels_last if form.channels_last else torch.contiguous_format
        model: SqueezeNet = SqueezeNet("1.1").to(self.device).to(memory_format=order)  # type: ignore[call-overload]  # torch types the method without it
        return model

    def _batches(self, form: Form, fed: bool = True) -> Iterator[Any]:
        """Input batches: one after another from the host, or the same one on the device."""
        stream = cycle([self.host])
        feed = Feed(Transform(), self.device, channels_last=form.channels_last)
        batches: Iterator[Any] = feed(stream)  # type: ignore[arg-type]  # has what Feed takes
        return batches if fed else cycle([next(batches)])

    def training(self, form: Form, fed: bool = False) -> Work:
        """A training step."""
        model = self._model(form).train()
        scaler = torch.amp.GradScaler(self.device.type, enabled=form.precision == "fp16")
        optimiser = CaffeOptimiser(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=2e-4)
        batches = self._batches(form, fed)
        if form.compiled == "reduce-overhead" and not self.on_gpu:
            raise MissingError("only on a GPU")
        forward: Any = torch.compile(model, mode=form.compiled) if form.compiled else model
        if form.graphed:
            if not self.on_gpu:
                raise MissingError("only on a GPU")
            # A cached cast would belong to the graph of the first pass alone.
            with self._casts(form.precision, cache_enabled=False):
                forward = torch.cuda.make_graphed_callables(model, (next(batches).images,))

        def work() -> float:
            batch = next(batches)
            if form.compiled == "reduce-overhead":
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # untyped in torch
            optimiser.zero_grad(set_to_none=not form.graphed)
            with self._casts(form.precision, cache_enabled=not form.graphed):
                logits = forward(batch.images)
            torch.autograd.backward(scaler.scale(F.cross_entropy(logits.float(), batch.labels)))
            scaler.step(optimiser)
            scaler.update()
            return self.size

        return work

    def classifying(self, form: Form) -> Work:
        """A forward pass."""
        model: Any = self._model(form).eval()
        if form.compiled:
            model = torch.compile(model, mode=form.compiled)
        images = next(self._batches(form)).images

        def work() -> float:
            with torch.inference_mode(), self._casts(form.precision):
                model(images)
            return self.size

        return work

    def feeding(self) -> Work:
        """Bytes to the device, mirrored, centred, channels last."""
        batches = self._batches(Form("bf16", True))

        def work() -> float:
            next(batches)
            return self.size

        return work

    def updating(self, kind: str) -> Work:
        """The weights' update alone."""
        parameters = list(SqueezeNet("1.1").to(self.device).parameters())
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        settings: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 2e-4}
        if kind.startswith("torch"):
            settings[kind.split()[1]] = True
        make: Any = torch.optim.SGD if kind.startswith("torch") else CaffeOptimiser
        optimiser = make(parameters, **settings)

        def work() -> float:
            optimiser.step()
            return 1

        return work

    def decoding(self) -> Work:
        """One core decodes as training does."""
        cv2.setNumThreads(1)

        def work() -> float:
            cv2.imdecode(self.jpeg, cv2.IMREAD_COLOR)
            return 1

        return work

    def decoding_on_all(self) -> Work:
        """OpenCV lets go of Python's lock while it decodes, so threads show what all cores can."""
        cv2.setNumThreads(1)
        pool = ThreadPoolExecutor(os.cpu_count())

        def work() -> float:
            return sum(pool.map(lambda _: cv2.imdecode(self.jpeg, 1) is not None, range(256)))

        return work

    def decoding_on_device(self) -> Work:
        """``--decode torchvision``: files to cuts; nvJPEG on a GPU."""
        try:
            decode = DeviceDecoder(self.device, CROP)
        except ReadError as error:
            raise MissingError(str(error)) from None
        cut = Transform().cut(plain_jpeg(self.jpeg.reshape(-1), "a photograph"), None)
        held = pack([cut] * self.size)

        def work() -> float:
            decode(*held, str)
            return self.size

        return work

    def multiplying(self, precision: str) -> Work:
        """A product of square matrices: 2 n^3 operations, in units of 1e9."""
        self._set_precision(precision)
        side = SIDE[self.device.type]
        dtype = DTYPES.get(precision, torch.float32)
        a = torch.randn(side, side, device=self.device, dtype=dtype)

        def work() -> float:
            torch.mm(a, a)
            return round(2 * side**3 / 1e9)

        return work

    def moving(self) -> Work:
        """Memory is copied to memory on the device: each byte is read and written."""
        source = torch.zeros(BYTES[self.device.type], dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)

        def work() -> float:
            target.copy_(source)
            return 2 * source.numel()

        return _in_billions(work)

    def sending(self) -> Work:
        """Bytes go to the device."""
        if not self.on_gpu:
            raise MissingError("only on a GPU")
        source = torch.zeros(BYTES[self.device.type], dtype=torch.uint8).pin_memory()
        target = torch.empty_like(source, device=self.device)

        def work() -> float:
            target.copy_(source, non_blocking=True)
            return source.numel()

        return _in_billions(work)


def _in_billions(work: Work) -> Work:
    return lambda: work() / 1e9


def multiplications(model: nn.Module) -> int:
    """Of one image's forward pass."""
    counts: list[int] = []

    def count(layer: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            counts.append(output.numel() * layer.weight[0].numel())

    for layer in model.modules():
        layer.register_forward_hook(count)
    with torch.inference_mode():
        model.eval()(torch.zeros(1, 3, CROP, CROP))
    return sum(counts)
