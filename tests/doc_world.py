"""The folder in which the documentation's commands run: the files that its pages speak of.

Genuine weights and images are taken from the folders that CAFFE2TORCH_TEST_MODELS and
CAFFE2TORCH_TEST_DATA name, a few images of each set. Without them, weights are random and
images are drawn: the commands run, the figures are those of other tests.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from doc_pages import ROOT

from caffe2torch.io.deep_compression import CodedLayer, encode
from squeezenet.compress import convolutions
from squeezenet.export import export
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import Transform

CHECKOUT = ("constraints.txt", "docs", "hubconf.py", "models", "tests", "tools")
"""What commands that begin in a checkout need of it; linked, so they must not write there."""
IMAGES = 4
"""Of each class of ants_bees, and twice as many of imagenet_sample."""
COMPRESSED = "squeezenet_deep_compression"
SOLVER = "base_lr: 0.04 lr_policy: 'poly' power: 1 max_iter: 10 momentum: 0.9\n"


def make_world(folder: Path) -> None:
    """Fill the empty ``folder``."""
    for name in CHECKOUT:
        (folder / name).symlink_to(ROOT / name)
    sample = ROOT / "models" / "squeezenet_digits"
    shutil.copy(sample.with_suffix(".caffemodel"), folder / "net.caffemodel")
    shutil.copy(sample.with_suffix(".prototxt"), folder / "deploy.prototxt")
    shutil.copytree(ROOT / "models" / "digits", folder / "folder")
    digit = next((ROOT / "models" / "digits").glob("*.png"))
    for name in ("cat.jpg", "image.jpg"):
        cv2.imwrite(str(folder / name), cv2.imread(str(digit)))
    _models(folder / "MODELS")
    _data(folder / "DATA")
    _imagenet(folder, folder / "DATA" / "imagenet_sample" / "images")
    for pattern in ("MODELS/squeezenet*/*.caffemodel", f"MODELS/{COMPRESSED}/*", "DATA/*"):
        for path in folder.glob(pattern):
            (folder / path.name).symlink_to(path)
    (folder / "synset_words.txt").symlink_to(folder / "DATA/imagenet_sample/synset_words.txt")


def _models(folder: Path) -> None:
    genuine = os.environ.get("CAFFE2TORCH_TEST_MODELS")
    if genuine:
        folder.symlink_to(genuine)
        return
    for version in ("1.0", "1.1"):
        own = folder / f"squeezenet_v{version}"
        own.mkdir(parents=True)
        export(SqueezeNet(version), Transform(), own / f"squeezenet_v{version}.caffemodel")
        shutil.copy(own / f"squeezenet_v{version}.prototxt", own / "deploy.prototxt")
    (folder / "squeezenet_v1.0" / "solver.prototxt").write_text(SOLVER)
    model = SqueezeNet("1.0")
    (folder / COMPRESSED).mkdir()
    (folder / COMPRESSED / "compressed_SqueezeNet.net").write_bytes(encode(_coded(model)))
    deploy = folder / "squeezenet_v1.0" / "squeezenet_v1.0.prototxt"
    shutil.copy(deploy, folder / COMPRESSED / "SqueezeNet_deploy.prototxt")


def _coded(model: SqueezeNet) -> list[CodedLayer]:
    """The signs of every third weight."""
    codebook = np.zeros(256, np.float32)
    codebook[1:3] = (0.05, -0.05)
    layers = []
    for conv in convolutions(model).values():
        weight = conv.weight.detach().numpy().ravel()
        codes = np.where(weight > 0, 1, 2).astype(np.uint8)
        codes[np.arange(codes.size) % 3 > 0] = 0
        layers.append(CodedLayer(codebook, codes, np.zeros(conv.out_channels, np.float32)))
    return layers


def _data(folder: Path) -> None:
    genuine = os.environ.get("CAFFE2TORCH_TEST_DATA")
    sample = folder / "imagenet_sample"
    (sample / "images").mkdir(parents=True)
    if genuine:
        source = Path(genuine) / "imagenet_sample"
        lines = (source / "val_list.txt").read_text().splitlines()[: 2 * IMAGES]
        words = (source / "synset_words.txt").read_text()
        _link((source / "images" / line.split()[0] for line in lines), sample / "images")
    else:
        lines = [f"{number}.png {number}" for number in range(2 * IMAGES)]
        words = "".join(f"n{number:08} class {number}\n" for number in range(1000))
        _draw(sample / "images")
    (sample / "val_list.txt").write_text("".join(f"{line}\n" for line in lines))
    (sample / "synset_words.txt").write_text(words)
    for split in ("train", "val"):
        for name in ("ants", "bees"):
            own = folder / "ants_bees" / split / name
            own.mkdir(parents=True)
            if genuine:
                files = sorted((Path(genuine) / "ants_bees" / split / name).glob("*.jpg"))
                _link(files[:IMAGES], own)
            else:
                _draw(own)


def _imagenet(folder: Path, images: Path) -> None:
    """ImageNet's tar files with two classes of two images, and Caffe's list of labels."""
    files = sorted(images.iterdir())[:IMAGES]
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, len(files) + 1)]
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as outer:
        for name, file in zip(names, files, strict=True):
            outer.add(file.resolve(), name)
    labels = "".join(f"{name} {number % 2}\n" for number, name in enumerate(names))
    (folder / "val.txt").write_text(labels)
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for number, synset in enumerate(("n01440764", "n01443537")):
            inner = folder / f"{synset}.tar"
            with tarfile.open(inner, "w") as archive:
                for file in files[number::2]:
                    archive.add(file.resolve(), f"{synset}_{file.name}")
            outer.add(inner, inner.name)
            inner.unlink()


def _link(files: Iterable[Path], folder: Path) -> None:
    for file in files:
        (folder / file.name).symlink_to(file)


def _draw(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(2 * IMAGES):
        coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number}.png"), image)
