"""Nets with their losses: Splits as Caffe inserts them, loss weights, learned blobs."""

import pytest
import torch

from caffe2torch.errors import NetError
from caffe2torch.io.prototxt import parse_prototxt
from caffe2torch.io.schema import enum_name
from caffe2torch.passes.draft import State
from caffe2torch.training.net import TrainingNet, open_net

INPUT = 'layer { name: "i" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'


def opened(layers: str, splits: bool = False) -> TrainingNet:
    return open_net(parse_prototxt(INPUT + layers, "net"), State("TRAIN"), splits=splits)


def test_splits_of_a_loss_that_is_read() -> None:
    net = opened(
        """
        layer { name: "l" type: "EuclideanLoss" bottom: "x" bottom: "x" top: "l" loss_weight: 2 }
        layer { name: "p" type: "Power" bottom: "l" top: "p" }
        """,
        splits=True,
    )
    assert [layer.name for layer in net.net.layer] == ["i", "x_i_0_split", "l", "l_l_0_split", "p"]
    assert list(net.net.layer[2].bottom) == ["x_i_0_split_0", "x_i_0_split_1"]
    assert list(net.net.layer[3].loss_weight) == [2, 0]
    assert list(net.net.layer[4].bottom) == ["l_l_0_split_1"]
    assert net.outputs == ("l_l_0_split_0", "p")


def test_losses_without_a_top_count() -> None:
    net = opened(
        """
        layer { name: "a" type: "EuclideanLoss" bottom: "x" bottom: "x" }
        layer { name: "b" type: "EuclideanLoss" bottom: "x" bottom: "x" }
        """
    )
    assert net.outputs == ()
    assert list(net.loss_weights.values()) == [1, 1]


@pytest.mark.parametrize(
    ("stated", "read", "gradient"), [("", True, 4), ("loss_weight: 1", True, 5), ("", False, 1)]
)
def test_a_weight_that_no_loss_states_gives_way_to_the_gradient_of_a_reader(
    stated: str, read: bool, gradient: float
) -> None:
    # The loss l is 0.5, and its gradient by the scale 1; 4 l^2, which reads it, has the gradient 4.
    net = opened(
        f"""
        layer {{ name: "z" type: "DummyData" top: "z"
          dummy_data_param {{ shape {{ dim: 2 dim: 3 }} }} }}
        layer {{ name: "s" type: "Scale" bottom: "x" top: "s"
          scale_param {{ filler {{ value: 1 }} }} }}
        layer {{ name: "l" type: "EuclideanLoss" bottom: "s" bottom: "z" top: "l" {stated} }}
        layer {{ name: "p" type: "Power" bottom: "l" top: "p" power_param {{ power: 2 scale: 2 }}
          {"loss_weight: 1" if read else ""} }}
        """
    )
    x = torch.tensor([[1.0, 0, 0], [1, 0, 0]])
    values = net.module.values({"x": x})
    net.objective(values).backward()  # type: ignore[no-untyped-call]  # untyped in torch
    assert net.learned[0].tensors[0].grad is not None
    assert net.learned[0].tensors[0].grad.tolist() == [gradient, 0, 0]


def test_a_shared_blob_takes_the_multiplier_that_is_stated() -> None:
    net = opened(
        """
        layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
          param { lr_mult: 0 } inner_product_param { num_output: 3 } }
        layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"
          param { name: "w" lr_mult: 5 decay_mult: 0 } inner_product_param { num_output: 3 } }
        """
    )
    found = [(b.node.layer.name, b.index, b.lr_mult, b.decay_mult) for b in net.learned]
    assert found == [("a", 0, 5, 0), ("a", 1, 0, 1), ("b", 1, 1, 1)]
    weight, bias = net.module.get_submodule("a").parameters()
    assert weight is net.module.get_submodule("b").weight
    assert weight.requires_grad
    assert not bias.requires_grad


@pytest.mark.parametrize("rates", [("", "lr_mult: 0"), ("lr_mult: 0", "")])
def test_of_layers_that_share_a_blob_each_says_whether_a_gradient_comes_from_it(
    rates: tuple[str, str],
) -> None:
    layer = """layer {{ name: "{1}" type: "InnerProduct" bottom: "{0}" top: "{1}"
        param {{ name: "w" {2} }} inner_product_param {{ num_output: 3 bias_term: false
          weight_filler {{ type: "constant" value: 2 }} }} }}"""
    text = layer.format("x", "a", rates[0]) + layer.format("a", "b", rates[1])
    net = opened(text.replace('top: "b"', 'top: "b" loss_weight: 1'))
    weight = net.learned[0]
    assert weight.lr_mult == 0
    net.loss(net.module.values({"x": torch.ones(2, 3)})).backward()  # type: ignore[no-untyped-call]
    # Both would be 12 + 12: the diff of a is 6, its bottom 1; that of b is 1, its bottom 6.
    gradients = [tensor.grad for tensor in weight.tensors if tensor.grad is not None]
    assert [gradient.tolist() for gradient in gradients] == [[[12.0] * 3] * 3]
    assert weight.tensors[0].requires_grad
    assert len({tensor.data_ptr() for tensor in weight.tensors}) == 1


@pytest.mark.parametrize("turned", [("", "transpose: true"), ("transpose: true", "")])
def test_a_blob_that_one_layer_transposes_is_one_memory(turned: tuple[str, str]) -> None:
    net = opened(
        f"""
        layer {{ name: "a" type: "InnerProduct" bottom: "x" top: "a" param {{ name: "w" }}
          inner_product_param {{ num_output: 3 bias_term: false {turned[0]}
            weight_filler {{ type: "xavier" }} }} }}
        layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" param {{ name: "w" }}
          inner_product_param {{ num_output: 3 bias_term: false {turned[1]} }} loss_weight: 1 }}
        """
    )
    (weight,) = net.learned
    first, second = (t.detach().double().requires_grad_() for t in weight.tensors)
    assert torch.equal(first, second.t())
    x = torch.linspace(-1, 1, 6).reshape(2, 3)
    net.loss(net.module.values({"x": x})).backward()  # type: ignore[no-untyped-call]
    weight.gather()
    # A layer computes x W^T; the second one's weight is the transpose of the first one's.
    (x.double() @ first.t() @ first).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.tensors[0].grad is not None
    torch.testing.assert_close(weight.tensors[0].grad.double(), first.grad)
    with torch.no_grad():
        weight.tensors[0].add_(1)
    assert torch.equal(weight.tensors[0], weight.tensors[1].t())


def test_a_blob_that_is_shared_in_other_shapes_is_one_memory() -> None:
    net = opened(
        """
        layer { name: "a" type: "InnerProduct" bottom: "x" top: "a"
          param { name: "w" share_mode: PERMISSIVE } inner_product_param { num_output: 2 } }
        layer { name: "r" type: "Reshape" bottom: "x" top: "r"
          reshape_param { shape { dim: 3 dim: 2 } } }
        layer { name: "b" type: "InnerProduct" bottom: "r" top: "b"
          param { name: "w" share_mode: PERMISSIVE } inner_product_param { num_output: 3 } }
        """
    )
    weight = net.learned[0]
    assert [tuple(tensor.shape) for tensor in weight.tensors] == [(2, 3), (3, 2)]
    assert weight.tensors[0].data_ptr() == weight.tensors[1].data_ptr()
    assert len(net.learned) == 3


def test_layers_keep_the_rules_by_which_they_are_in_the_net() -> None:
    net = opened(
        """
        layer { name: "a" type: "TanH" bottom: "x" top: "a" include { phase: TEST } }
        layer { name: "a" type: "TanH" bottom: "x" top: "a" include { phase: TRAIN } }
        layer { name: "b" type: "TanH" bottom: "a" top: "b" exclude { phase: TEST } }
        """
    )
    assert [layer.name for layer in net.net.layer] == ["i", "a", "b"]
    assert enum_name(net.net.layer[1].include[0], "phase") == "TRAIN"
    assert enum_name(net.net.layer[2].exclude[0], "phase") == "TEST"


def test_two_data_layers_of_one_name_are_an_error() -> None:
    data = """layer { name: "d" type: "DummyData" top: "TOP" dummy_data_param {
        shape { dim: 2 } data_filler { type: "uniform" } } }"""
    with pytest.raises(NetError, match="another data layer of this phase has its name"):
        opened(data.replace("TOP", "p") + data.replace("TOP", "q"))


def test_batch_norm_takes_statistics_in_phase_test_where_it_is_told_not_to_use_them() -> None:
    text = """layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y"
        batch_norm_param { FLAG moving_average_fraction: 0.5 } }"""
    x = torch.tensor([[1.0, 2, 3], [3, 6, 5]])
    factors = {}
    for flag in ("use_global_stats: false", "use_global_stats: true", ""):
        proto = parse_prototxt(INPUT + text.replace("FLAG", flag), "net")
        net = open_net(proto, State("TEST"))
        for _ in range(2):
            net.module.values({"x": x})
        own = net.module.get_submodule("bn")
        factors[flag] = float(own.scale_factor)
        if factors[flag]:
            torch.testing.assert_close(own.running_mean, x.mean(0))
    assert factors == {"use_global_stats: false": 1.5, "use_global_stats: true": 0, "": 0}


def test_a_layer_may_have_the_name_of_an_input_or_data_layer() -> None:
    net = opened('layer { name: "i" type: "TanH" bottom: "x" top: "y" loss_weight: 1 }')
    assert net.outputs == ("y",)
    assert list(net.loss_weights.values()) == [1]


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("layer", "flows"),
    [
        ('type: "LSTM" bottom: "ip" bottom: "cont" recurrent_param { num_output: 2 }', True),
        ('type: "BatchNorm" bottom: "ip"', True),
        ('type: "Softmax" bottom: "ip" softmax_param { axis: 2 }', False),
    ],
)
def test_a_whole_backward_goes_through_a_blob_that_others_read_too(
    layer: str, flows: bool, shared: bool
) -> None:
    """``propagate_down: false`` stops it where the layer before has nothing else to do."""

    def gradient(flag: str) -> torch.Tensor:
        flags = f"propagate_down: {flag}" + " propagate_down: false" * ('"cont"' in layer)
        other = 'layer { name: "w" type: "TanH" bottom: "ip" top: "w" loss_weight: 1 }'
        proto = parse_prototxt(
            f"""
            layer {{ name: "i" type: "Input" top: "x" top: "cont" input_param {{
              shape {{ dim: 4 dim: 3 dim: 5 }} shape {{ dim: 4 dim: 3 }} }} }}
            layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param {{
              num_output: 5 axis: 2 weight_filler {{ type: "xavier" }} }} }}
            layer {{ name: "l" {layer} {flags} top: "y" }}
            layer {{ name: "e" type: "Reduction" bottom: "y" top: "e" loss_weight: 1
              reduction_param {{ operation: SUMSQ axis: 1 }} }}
            {other if shared else ""}
            """,
            "net",
        )
        net = open_net(proto, State("TRAIN"), seed=3)
        for blob in net.learned[2:]:
            for tensor in blob.tensors:
                torch.nn.init.uniform_(tensor, generator=torch.Generator().manual_seed(4))
        x = torch.rand(4, 3, 5, generator=torch.Generator().manual_seed(5))
        objective = net.objective(net.module.values({"x": x, "cont": torch.ones(4, 3)}))
        if objective.requires_grad:
            objective.backward()
        (weight,) = net.learned[0].tensors
        return torch.zeros_like(weight) if weight.grad is None else weight.grad

    free, cut = gradient("true"), gradient("false")
    assert free.any()
    assert torch.equal(cut, free) == (shared and flows)
    assert cut.any() == shared
