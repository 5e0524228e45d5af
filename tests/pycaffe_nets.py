"""A net, and how the tests of Net and Blob make and fill one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import caffe2torch.pycaffe as caffe

CHAIN = """
name: "chain"
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {
  num_output: 4 kernel_size: 3 weight_filler { type: "gaussian" std: 0.5 } } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
layer { name: "a" type: "TanH" bottom: "c" top: "a" }
layer { name: "b" type: "Flatten" bottom: "c" top: "b" }
layer { name: "fc" type: "InnerProduct" bottom: "b" top: "fc" inner_product_param {
  num_output: 6 weight_filler { type: "gaussian" std: 0.1 } } }
"""


def made(folder: Path, text: str, phase: int = caffe.TEST) -> caffe.Net:
    path = folder / "net.prototxt"
    path.write_text(text)
    return caffe.Net(str(path), phase)


def filled(net: caffe.Net, seed: int = 0) -> caffe.Net:
    rng = np.random.RandomState(seed)
    for name in net.inputs:
        net.blobs[name].data[...] = rng.randn(*net.blobs[name].shape)
    return net
