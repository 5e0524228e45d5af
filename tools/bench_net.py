"""Iterations of ``caffe2torch train`` by the net, the precision and the order of memory.

    python tools/bench_net.py --seconds 20

Each net is trained on random numbers in all forms, which take turns: images/s, and how many times
those of the plain form (float32, each channel by itself in memory).
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import torch
from benchmark.nets import Net, googlenet, resnet50

from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import Message
from caffe2torch.passes.draft import State
from caffe2torch.training.distributed import choose_device, join_team
from caffe2torch.training.fed import FedNet
from caffe2torch.training.net import open_net
from caffe2torch.training.precision import PLAIN, Arithmetic
from squeezenet.deploy import deploy_prototxt

CLASSES = 1000
FORMS = {
    "fp32": PLAIN,
    "fp32, channels last": Arithmetic(channels_last=True),
    "bf16": Arithmetic("bf16", channels_last=False),
    "bf16, channels last": Arithmetic("bf16", channels_last=True),
}


def alexnet() -> str:
    """CaffeNet's layers: grouped convolutions, LRN, large InnerProducts, Dropout."""
    net = Net("alexnet", 1, 3, 227, 227)
    lrn = "lrn_param { local_size: 5 }"
    x = net.relu("relu1", net.conv("conv1", "data", 96, 11, 4))
    x = net.layer("norm1", "LRN", net.pool("pool1", x, 3, 2), lrn)
    x = net.relu("relu2", net.conv("conv2", x, 256, 5, 1, 2, "group: 2"))
    x = net.layer("norm2", "LRN", net.pool("pool2", x, 3, 2), lrn)
    x = net.conv_relu("conv3", x, 384, 3, 1, 1)
    x = net.relu("relu4", net.conv("conv4", x, 384, 3, 1, 1, "group: 2"))
    x = net.relu("relu5", net.conv("conv5", x, 256, 3, 1, 1, "group: 2"))
    x = net.pool("pool5", x, 3, 2)
    for name in ("fc6", "fc7"):
        x = net.relu(f"relu_{name}", net.linear(name, x, 4096))
        x = net.layer(f"drop_{name}", "Dropout", x, top=x)
    net.linear("fc8", x, CLASSES)
    return net.text()


NETS = {
    "squeezenet_v1.1": lambda: deploy_prototxt("1.1", None, CLASSES),
    "alexnet": alexnet,
    "googlenet": googlenet,
    "resnet50": resnet50,
}


def training_net(text: str, batch_size: int) -> Message:
    """A deploy net that trains on random images with the label 0, whose weights begin at 0."""
    net = parse_prototxt(text)
    inputs = [layer for layer in net.layer if layer.type == "Input"]
    shape = list(inputs[0].input_param.shape[0].dim) if inputs else list(net.input_shape[0].dim)
    name = inputs[0].top[0] if inputs else net.input[0]
    for field in ("input", "input_shape"):
        net.ClearField(field)
    for layer in inputs:
        net.layer.remove(layer)
    if net.layer[-1].type == "Softmax":
        del net.layer[-1]
    data = net.layer.add(name="data", type="DummyData")
    data.top[:] = [name, "label"]
    for dims in ([batch_size, *shape[1:]], [batch_size]):
        data.dummy_data_param.shape.add().dim[:] = dims
    data.dummy_data_param.data_filler.add(type="gaussian")
    data.dummy_data_param.data_filler.add(type="constant")
    net.layer.insert(0, net.layer.pop())
    loss = net.layer.add(name="loss", type="SoftmaxWithLoss")
    loss.bottom[:] = [net.layer[-2].top[0], "label"]
    return net


@click.command()
@click.option("--seconds", default=20.0, show_default=True, help="For each row.")
@click.option("--rounds", default=4, show_default=True, help="Parts of these seconds.")
@click.option("--batch-size", default=16, show_default=True)
@click.option("--device", default="auto")
@click.argument("nets", nargs=-1, type=click.Choice(list(NETS)))
def main(seconds: float, rounds: int, batch_size: int, device: str, nets: tuple[str, ...]) -> None:
    """Print the rates."""
    with join_team(device) as team:
        for name in nets or NETS:
            net = training_net(NETS[name](), batch_size)
            rates = measure(net, choose_device(team.device.type), seconds, rounds, batch_size)
            for form, rate in rates.items():
                times = rate / rates["fp32"]
                click.echo(f"{name:16} {form:20} {rate:8.1f} images/s  {times:5.2f} x")


def measure(
    net: Message, device: torch.device, seconds: float, rounds: int, batch_size: int
) -> dict[str, float]:
    """Images/s of every form."""
    fed = {
        form: FedNet(open_net(net, State("TRAIN"), folder=Path()), device, arithmetic=arithmetic)
        for form, arithmetic in FORMS.items()
    }
    passes, times = dict.fromkeys(FORMS, 0), dict.fromkeys(FORMS, 0.0)
    for part in range(rounds + 1):  # The first is not counted.
        for form, one in fed.items():
            start = time.perf_counter()
            done = 0
            while not done or (part and time.perf_counter() - start < seconds / rounds):
                one.clear_gradients()
                float(one.forward_backward().loss)
                done += 1
            if part:
                passes[form] += done
                times[form] += time.perf_counter() - start
    return {form: passes[form] * batch_size / times[form] for form in FORMS}


if __name__ == "__main__":
    main()
