"""A trained model back out: ONNX, converted-weights files, and Caffe's own two files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from caffe2torch.artefact.write import write_graph
from caffe2torch.errors import ArtefactError
from caffe2torch.graph import Graph
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.write_caffemodel import write_caffemodel
from caffe2torch.pipeline import build_graph, with_params
from squeezenet.deploy import deploy_prototxt
from squeezenet.model import SqueezeNet
from squeezenet.preprocess import Transform

SUFFIXES = (".onnx", ".safetensors", ".pt", ".caffemodel")


def export(model: SqueezeNet, transform: Transform, path: Path) -> list[Path]:
    """Write the model in the format that the suffix names; return the files written.

    A .caffemodel gets its deploy .prototxt beside it. All files also carry the size, mean
    and scale of the input, unless the mean is an image. Raises ArtefactError for another
    suffix, and for a .caffemodel whose input Caffe has no words for.
    """
    if path.suffix not in SUFFIXES:
        raise ArtefactError(
            f"{path}: there is no format of the suffix {path.suffix!r}; "
            f"choose {', '.join(SUFFIXES)}"
        )
    record = transform.preprocessing if transform.mean_image is None else None
    graph = replace(graph_of(model, transform.crop), preprocessing=record)
    if path.suffix == ".caffemodel":
        prototxt = path.with_suffix(".prototxt")
        write_caffemodel(graph, path, prototxt)
        return [path, prototxt]
    write_graph(graph, path)
    return [path]


def graph_of(model: SqueezeNet, size: int, *, softmax: bool = True) -> Graph:
    """The graph that the model's Caffe form would be read as.

    Its state_dict keys are the graph's, so the arrays go over as they are.
    """
    text = deploy_prototxt(
        model.version, model.bypass, model.num_classes, size=size, softmax=softmax
    )
    arrays = {
        key: tensor.detach().float().cpu().contiguous().numpy()
        for key, tensor in model.state_dict().items()
    }
    return with_params(build_graph(parse_prototxt(text, "the model's deploy prototxt")), arrays)
