"""Fields of forks that change nothing about what a net computes: which, and why not."""

from __future__ import annotations

from typing import NamedTuple

from caffe2torch.errors import NetError
from caffe2torch.io.schema import Message, enum_value, replace_all
from caffe2torch.io.unknown import describe
from caffe2torch.passes.draft import Draft


class Hint(NamedTuple):
    """A field that is ignored.

    ``field`` is its path in a layer (``convolution_param.conv_algorithm``), or in a net; with
    ``*.`` in front, in any parameter message of a layer. ``types`` are the layer types that it
    is ignored in, all if there are none, ``beside`` another field that must be there too.
    With ``of_batches`` it is one only if no BatchNorm takes the statistics of the batch; with
    ``value``, only where it has that value in a prototxt.
    """

    field: str
    reason: str
    types: frozenset[str] = frozenset()
    beside: str = ""
    of_batches: bool = False
    value: str = ""


FILE_FILLER = (
    "a file with initial values: weights take their place, and without them the filler's type is "
    "refused by name"
)
EXPECTATION = (
    "of the filler 'expectation' (cbfinn): weights take its place, and without them its type is "
    "refused by name"
)
PRODUCTS = frozenset({"Convolution", "Deconvolution", "InnerProduct"})

LAYER_HINTS = (
    Hint("engine", "which library computes the layer (Intel)"),
    Hint("*.engine", "which library computes the layer: MKL2017, MKLDNN, CUDNN (Intel, NVIDIA)"),
    Hint(
        "quantization_param",
        "scales with which Intel's engine may round this layer to int8; its weights and its "
        "definition are in float32. Ristretto's quantised layers are other types",
        PRODUCTS,
    ),
    Hint("convolution_param.conv_algorithm", "direct or Winograd: the same sums (Intel)"),
    Hint("convolution_param.conv_algos_override", "cuDNN's algorithms: the same sums (NVIDIA)"),
    Hint(
        "convolution_param.cudnn_convolution_algo_seeker",
        "how cuDNN's algorithm is found (NVIDIA)",
    ),
    Hint("convolution_param.mem_group_size", "items that im2col takes at once (bogger)"),
    Hint(
        "convolution_param.cudnn_worspace_allow_on_groups",
        "whether cuDNN may use memory of its own beside groups (MyCaffe)",
    ),
    Hint("strict_dim", "whether weights of other shapes may initialise the layer (DeepLab v1)"),
    Hint("cudnn_math_override", "whether cuDNN may use tensor cores (NVIDIA)"),
    Hint("forward_type", "the number type in a GPU's memory (NVIDIA)"),
    Hint("backward_type", "the number type of gradients (NVIDIA)"),
    Hint("forward_math", "the number type of a GPU's sums (NVIDIA)"),
    Hint("backward_math", "the number type of a GPU's sums in training (NVIDIA)"),
    Hint("multinode", "how machines share the layer in training (Intel)"),
    Hint("mn_grad_compress_param", "how machines exchange gradients (Intel)"),
    Hint(
        "batch_norm_param.filler",
        "initial values of a scale that a Scale layer has (Intel); a file of five blobs is refused",
    ),
    Hint(
        "batch_norm_param.bias_filler",
        "initial values of a shift that a Scale layer has (Intel)",
        beside="batch_norm_param.filler",
    ),
    Hint(
        "batch_norm_param.stats_batch_size",
        "of how many items training takes statistics together (Intel)",
        of_batches=True,
    ),
    Hint("param.force_mult", "of a force on weights in training (wenwei202)"),
    Hint("*.weight_filler.alpha", "the spread of random initial values (happynear's MSRA filler)"),
    Hint("*.weight_filler.file", FILE_FILLER),
    Hint("*.bias_filler.file", FILE_FILLER),
    Hint("*.weight_filler.expectation_option", EXPECTATION),
    Hint(
        "*.weight_filler.width",
        EXPECTATION,
        beside="inner_product_param.weight_filler.expectation_option",
    ),
    Hint(
        "*.weight_filler.height",
        EXPECTATION,
        beside="inner_product_param.weight_filler.expectation_option",
    ),
    Hint(
        "detection_output_param.nms_param.soft_nms",
        "false is SSD's own suppression (jolibrain)",
        value="false",
    ),
    Hint(
        "detection_output_param.nms_param.theta",
        "of soft suppression, which is off (jolibrain)",
        beside="detection_output_param.nms_param.soft_nms",
    ),
    Hint("*.weight_filler.negative_slope", "the spread of random initial values (MSRA filler)"),
    Hint("*.bias_filler.negative_slope", "the spread of random initial values (MSRA filler)"),
)
"""Of layers. Nothing that changes a blob in phase TEST may stand here."""

NET_HINTS = (
    Hint("engine", "which library computes the net (Intel)"),
    Hint("multinode", "how machines share the net in training (Intel)"),
    Hint(
        "bn_stats_batch_size",
        "of how many items training takes statistics together (Intel)",
        of_batches=True,
    ),
    Hint("compile_net_state", "which layers Intel's engine computes together"),
    Hint("default_forward_type", "the number type in a GPU's memory (NVIDIA)"),
    Hint("default_backward_type", "the number type of gradients (NVIDIA)"),
    Hint("default_forward_math", "the number type of a GPU's sums (NVIDIA)"),
    Hint("default_backward_math", "the number type of a GPU's sums in training (NVIDIA)"),
    Hint("default_conv_algos_override", "cuDNN's algorithms: the same sums (NVIDIA)"),
    Hint("default_cudnn_math_override", "whether cuDNN may use tensor cores (NVIDIA)"),
    Hint("global_grad_scale", "a factor that training takes back (NVIDIA)"),
    Hint("global_grad_scale_adaptive", "whether training finds that factor (NVIDIA)"),
    Hint("global_grad_scale_param", "the factor of gradients, by the norm of them (NVIDIA)"),
    Hint("eltwise_mem_sharing", "whether a sum takes the memory of its bottom (NVIDIA's default)"),
    Hint("mem_param", "which blobs share memory, with the same numbers (yjxiong)"),
    Hint("richness", "the MB that cuDNN may work in (Cysu)"),
    Hint("auto_insert_gathers", "where machines put a batch together again (Cysu)"),
    Hint("print_net_info", "what the log tells (nbadalls)"),
    Hint("reduce_buckets", "how GPUs exchange gradients (NVIDIA)"),
)
"""Of nets."""


def drop_hints(draft: Draft) -> None:
    """Drop the fields of forks that do not change what the net computes.

    A warning tells that a layer was to be rounded to int8. So is the image dropped on which SSD's
    DetectionOutput draws (``visualize``). Raises NetError for other unknown fields of the net.
    Before::

        layer { name: "c" type: "Convolution" engine: "MKLDNN" bottom: "x" top: "c" }

    After::

        layer { name: "c" type: "Convolution" bottom: "x" top: "c" }
    """
    net, find = draft.net, HintFinder(draft.net)
    if unknown := [field for field in net.unknown_field if find(net, field) is None]:
        raise NetError(
            f"unknown field of the net: {describe(unknown[0])}. It may change what the net "
            "computes: correct its spelling, or remove it if it does not."
        )
    rounded = 0
    for layer in net.layer:
        hints = [find(layer, field) for field in layer.unknown_field]
        rounded += any(hint is not None and hint.field == "quantization_param" for hint in hints)
        kept = [f for f, hint in zip(layer.unknown_field, hints, strict=True) if hint is None]
        replace_all(layer.unknown_field, kept)
        if layer.type == "DetectionOutput" and layer.detection_output_param.visualize:
            del layer.bottom[3:4]
    if rounded:
        draft.warnings.append(
            "layers with a quantization_param, with which Intel's Caffe computes in int8, are "
            f"converted in float32: {rounded}."
        )


class HintFinder:
    """Finds the hint that an UnknownField of a filtered net, or of one of its layers, is."""

    def __init__(self, net: Message) -> None:
        train = enum_value("Phase", "TRAIN")
        self.takes_batches = any(
            layer.type == "BatchNorm"
            and (
                not layer.batch_norm_param.use_global_stats
                if layer.batch_norm_param.HasField("use_global_stats")
                else layer.phase == train
            )
            for layer in net.layer
        )

    def __call__(self, message: Message, unknown: Message) -> Hint | None:
        """The hint; None if the field of the net or layer ``message`` is none."""
        is_layer = message.DESCRIPTOR.name == "LayerParameter"
        present = {_path(field) for field in message.unknown_field}
        for hint in LAYER_HINTS if is_layer else NET_HINTS:
            if (
                _fits(hint.field, _path(unknown))
                and (not hint.types or message.type in hint.types)
                and (not hint.beside or hint.beside in present)
                and not (hint.of_batches and self.takes_batches)
                and hint.value in ("", unknown.text.partition(":")[2].strip())
            ):
                return hint
        return None


def _path(unknown: Message) -> str:
    """The path of a field in a text; of one in a binary, whose name is unknown, none."""
    return ".".join(filter(None, (unknown.parent, unknown.name))) if unknown.name else ""


def _fits(pattern: str, path: str) -> bool:
    _, star, tail = pattern.partition("*.")
    return path.partition(".")[2] == tail if star else path == pattern
