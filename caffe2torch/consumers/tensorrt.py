"""TensorRT's ONNX parser, by the operator table that its project publishes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from caffe2torch.consumers import Consumer, Doubt, register_consumer

if TYPE_CHECKING:
    import onnx

OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast
    CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
    DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike
    Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool
    GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization GRU HardSigmoid HardSwish
    Hardmax Identity If InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less
    LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean
    MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or Pad Pow
    PRelu QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
    ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RNN RoiAlign Round
    Scan ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
    Transpose Trilu Unsqueeze Where Xor
    """.split()
)
MOST_VALUES = 3840
"""TopK gives fewer than so many."""


@register_consumer("tensorrt")
class TensorRT(Consumer):
    """It is known by its table of operators; nets for it have been run nowhere yet.

    An open batch needs an optimisation profile (``trtexec --minShapes --optShapes --maxShapes``).
    """

    title = "TensorRT 10"
    operators = OPERATORS
    source = "the operator table of onnx-tensorrt 10.1"
    note = (
        "TensorRT may compute in TF32: give trtexec --noTF32 for the results of Caffe, and, for an "
        "open batch, --minShapes, --optShapes and --maxShapes."
    )
    load = "trtexec --onnx=net.onnx --noTF32 --saveEngine=net.plan"

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        from onnx import numpy_helper

        from caffe2torch.consumers._rewriting import attributes_of

        yield from super().doubts(model)
        constants = {i.name: i for i in model.graph.initializer}
        for node in model.graph.node:
            given = attributes_of(node)
            if node.op_type in ("MaxPool", "AveragePool"):
                if len(node.output) > 1:
                    yield Doubt(node, "it gives no indices of maxima")
                if len(given["kernel_shape"]) not in (2, 3):
                    yield Doubt(node, "it pools over two or three axes only")
                if set(given.get("dilations", ())) - {1}:
                    yield Doubt(node, "it pools without dilations only")
            elif node.op_type == "TopK":
                count = constants.get(node.input[1])
                if count is None or numpy_helper.to_array(count).max() >= MOST_VALUES:
                    yield Doubt(node, f"it finds fewer than {MOST_VALUES} values")
                if not given.get("sorted", 1):
                    yield Doubt(node, "it gives the values in order only")
            elif node.op_type == "Resize" and given.get("mode") == b"cubic":
                yield Doubt(node, "it resizes by nearest or linear only")
            elif node.op_type == "ScatterND" and given.get("reduction", b"none") != b"none":
                yield Doubt(node, "it scatters without a reduction only")
            elif (
                node.op_type in ("DequantizeLinear", "QuantizeLinear")
                and len(node.input) > 2
                and numpy_helper.to_array(constants[node.input[2]]).any()
            ):
                yield Doubt(node, "its zero point must be 0: quantise symmetrically")
