"""A new classifier begins as a mixture of the old one's classes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from caffe2torch.training.distributed import ALONE, Team
from squeezenet.checkpoint import load_checkpoint
from squeezenet.config import TrainConfig
from squeezenet.data import BadImages, ImageDataset
from squeezenet.evaluate import Predict
from squeezenet.head import mix_classifier
from squeezenet.parts import make_transform
from squeezenet.sources import open_split
from squeezenet.train import train

OLD, SIDE = 5, 64


def quiet(message):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes, of which the second has no image that can be read."""
    root = tmp_path_factory.mktemp("shades")
    for split in ("train", "val"):
        for label, name in enumerate(("dark", "empty", "light")):
            (root / split / name).mkdir(parents=True)
            for index in range(2 + label):
                path = root / split / name / f"{index}.png"
                if name == "empty" and split == "train":
                    path.write_bytes(b"no image")
                else:
                    cv2.imwrite(str(path), np.full((70, 90, 3), 60 * label + 9 * index, np.uint8))
    return root


def dataset(root):
    config = TrainConfig(resize=SIDE, crop=SIDE)
    return ImageDataset(open_split(root, None, "train").source, make_transform(config, "caffe"),
                        seed=None)  # fmt: skip


def of_brightness(images):
    """Logits for five old classes that depend on the image."""
    return images.mean((1, 2, 3))[:, None] * torch.tensor([0.01, -0.02, 0.0, 0.03, 0.005])


def mix(root, team=ALONE):
    torch.manual_seed(0)
    new, old = nn.Conv2d(7, 3, 1), nn.Conv2d(7, OLD, 1)
    before = new.weight.detach().clone()
    mix_classifier(
        new, old, Predict(of_brightness), dataset(root),
        batch_size=2, workers=0, bad=BadImages("skip", quiet), team=team,
    )  # fmt: skip
    return new, old, before


def test_a_class_begins_as_what_its_images_are_taken_for(data):
    new, old, before = mix(data)
    images = dataset(data)
    for label, name in ((0, "dark"), (2, "light")):
        inputs = [
            images.transform(images.source.read(index)[0], None)
            for index in range(len(images))
            if f"/{name}/" in images.source.where(index)
        ]
        shares = of_brightness(torch.from_numpy(np.stack(inputs))).softmax(1).mean(0)
        expected = (shares[:, None] * old.weight.detach()[:, :, 0, 0]).sum(0)
        torch.testing.assert_close(new.weight.detach()[label, :, 0, 0], expected)
        torch.testing.assert_close(new.bias.detach()[label], shares @ old.bias.detach())
    assert torch.equal(new.weight.detach()[1], before[1])  # No image: as it was.


class Half(Team):
    """One of two processes; the sum over both is taken by the test."""

    sums: list[torch.Tensor]

    def sum(self, tensor):
        self.sums.append(tensor.clone())
        return tensor


def test_processes_share_the_images_out(data):
    sums = []
    for rank in range(2):
        team = Half(rank, 2, torch.device("cpu"))
        object.__setattr__(team, "sums", sums)
        mix(data, team)
    assert (sums[0] + sums[1])[:, 0].tolist() == [2, 0, 4]
    assert 0 < sums[0][:, 0].sum() < 6


def test_training_begins_so_and_goes_on_without(data, tmp_path):
    """With a rate of 0 the classifier stays as it began; a run that goes on keeps its own."""
    settings = {
        "data": str(data), "resize": SIDE, "crop": SIDE, "batch_size": 2, "workers": 0,
        "threads": 1, "device": "cpu", "lr": 0.0, "max_iter": 1,
    }  # fmt: skip

    def run(name, init_from=None, **more):
        config = TrainConfig(**{**settings, "out": str(tmp_path / name), **more})
        train(config, init_from=init_from, report=quiet)
        return load_checkpoint(tmp_path / name / "last.pt")

    old = run("old", num_classes=OLD)["model"]["conv10.weight"]
    weights = str(tmp_path / "old" / "last.pt")
    state = run("new", pretrained=weights, ema=0.5)
    new = state["model"]["conv10.weight"]
    assert torch.equal(state["ema"]["conv10.weight"], new)
    for label in (0, 2):  # A mixture: between the least and the largest of the old ones.
        assert (new[label] >= old.amin(0) - 1e-7).all()
        assert (new[label] <= old.amax(0) + 1e-7).all()
    random = run("random", pretrained=weights, classifier="random")["model"]["conv10.weight"]
    assert torch.equal(random[1], new[1])  # Class 1 has no image, and stays as it was filled.
    assert not torch.isclose(random[0], new[0]).any()
    on = run("on", tmp_path / "new" / "last.pt", pretrained=weights, max_iter=2, ema=0.5)
    assert torch.equal(on["model"]["conv10.weight"], new)
