import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from serving.linear import DenseWeight, Nf4Weight, UnsupportedWeightError, projection

SIZES = {"q": 128, "k": 64, "v": 64}
INPUTS = 192


class Attention(nn.Module):
    """Three linear layers with the same input; those in `biased` have a bias."""

    def __init__(self, biased=()):
        super().__init__()
        torch.manual_seed(0)
        for name, outputs in SIZES.items():
            self.add_module(name, nn.Linear(INPUTS, outputs, bias=name in biased))
        self.requires_grad_(False).eval()

    def layers(self):
        return [self.q, self.k, self.v]

    def quantized(self, **settings):
        for name, layer in zip(SIZES, self.layers(), strict=True):
            setattr(self, name, quantize(layer, **settings))
        return self

    def with_lora(self, **settings):
        """Random pairs, as after a training."""
        config = LoraConfig(
            **{"r": 4, "lora_alpha": 6, "target_modules": list(SIZES), **settings},
        )
        inject_adapter_in_model(config, self)
        for name, parameter in self.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                nn.init.normal_(parameter, std=0.3)
        return self.requires_grad_(False).eval()


def quantize(linear, quant_type="nf4", blocksize=64, nested=True):
    layer = bitsandbytes.nn.Linear4bit(
        linear.in_features, linear.out_features, linear.bias is not None, torch.float32
    )
    layer.weight = bitsandbytes.nn.Params4bit(
        linear.weight.data,
        requires_grad=False,
        quant_type=quant_type,
        blocksize=blocksize,
        compress_statistics=nested,
    )
    layer.bias = linear.bias
    # bitsandbytes would compute in bfloat16 where the processor can, whatever it was told
    layer.support_avx512bf16_for_cpu = False
    return layer.to("cpu").eval()


def inputs(tokens=5, size=INPUTS):
    return torch.randn(tokens, size, generator=torch.Generator().manual_seed(1))


def assert_same_products(attention, *, dense=False):
    """One product of all layers gives what the layers themselves give."""
    x = inputs()
    wanted = torch.cat([layer(x) for layer in attention.layers()], dim=-1)

    found = projection(attention.layers(), torch.float32, dense=dense)(x)

    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


both_ways = pytest.mark.parametrize("dense", [False, True], ids=["apart", "merged"])


# Without LoRA


@both_ways
@pytest.mark.parametrize("biased", ["", "qkv", "k", "qv"])
def test_layers_are_joined_with_the_biases_that_they_have(biased, dense):
    assert_same_products(Attention(biased), dense=dense)


@both_ways
@pytest.mark.parametrize("nested", [False, True], ids=["plain scales", "quantized scales"])
@pytest.mark.parametrize("biased", ["", "qkv", "v"])
def test_4_bit_layers_are_joined_too(biased, nested, dense):
    assert_same_products(Attention(biased).quantized(nested=nested), dense=dense)


def test_a_layer_alone_is_a_product_too():
    layer = Attention("v").v
    x = inputs()
    torch.testing.assert_close(projection([layer], torch.float32, dense=False)(x), layer(x))


def test_the_input_stays_as_it_is():
    x = inputs()
    before = x.clone()
    projection(Attention("qkv").with_lora().layers(), torch.float32, dense=False)(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("tokens", [1, 4, 5, 33])
def test_4_bit_products_are_right_for_any_number_of_tokens(tokens):
    layer = Attention().quantized().q
    x = inputs(tokens)
    torch.testing.assert_close(projection([layer], torch.float32, dense=False)(x), layer(x))


# With LoRA

LORAS = {
    "all": {},
    "one": {"target_modules": ["k"]},
    "two": {"target_modules": ["q", "v"]},
    "rank-stabilized": {"use_rslora": True},
    "ranks of their own": {"rank_pattern": {"q": 8, "v": 1}, "alpha_pattern": {"k": 1}},
    "dropout": {"lora_dropout": 0.5},
}


@both_ways
@pytest.mark.parametrize("quantized", [False, True], ids=["dense", "nf4"])
@pytest.mark.parametrize("settings", LORAS.values(), ids=LORAS.keys())
def test_stacked_pairs_give_what_peft_gives(settings, quantized, dense):
    attention = Attention("q")
    if quantized:
        attention.quantized()
    assert_same_products(attention.with_lora(**settings), dense=dense)


def test_lora_makes_a_difference():
    x = inputs()
    bare = projection(Attention().layers(), torch.float32, dense=False)(x)
    found = projection(Attention().with_lora().layers(), torch.float32, dense=False)(x)
    for part in (found - bare).split(list(SIZES.values()), dim=-1):
        assert part.abs().mean() > 0.1


@both_ways
@pytest.mark.parametrize("quantized", [False, True], ids=["dense", "nf4"])
def test_in_half_precision_products_stay_close_and_in_it(quantized, dense):
    attention = Attention("qkv")
    if quantized:
        attention.quantized()
    attention.with_lora()
    x = inputs().bfloat16()
    wanted = torch.cat([layer(x.float()) for layer in attention.layers()], dim=-1)

    if not quantized:
        attention.bfloat16()
    found = projection(attention.layers(), torch.bfloat16, dense=dense)(x)

    assert found.dtype == torch.bfloat16
    assert (found - wanted).norm() / wanted.norm() < 1e-2


def test_merging_changes_neither_the_weights_nor_the_pairs():
    attention = Attention("q").with_lora()
    before = {name: value.clone() for name, value in attention.state_dict().items()}

    projection(attention.layers(), torch.float32, dense=True)

    after = attention.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


# Weights


def test_joined_4_bit_weights_expand_to_what_bitsandbytes_expands_each_to():
    layers = Attention().quantized(nested=False).layers()
    states = [layer.weight.quant_state for layer in layers]
    weights = [
        Nf4Weight(layer.weight.data, state.absmax, tuple(state.shape))
        for layer, state in zip(layers, states, strict=True)
    ]

    found = Nf4Weight.joined(weights).dense()

    wanted = [dequantize_4bit(layer.weight.data, layer.weight.quant_state) for layer in layers]
    assert torch.equal(found, torch.cat(wanted))


def test_a_dense_weight_is_in_full_precision_when_asked_for():
    matrix = inputs(3, 4).bfloat16()
    weight = DenseWeight(matrix)
    assert weight.multiply(torch.eye(4).bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(weight.dense(), matrix.float(), atol=0, rtol=0)


# What it cannot multiply with


def assert_unsupported(layers, match):
    with pytest.raises(UnsupportedWeightError, match=match):
        projection(layers, torch.float32, dense=False)


def test_other_4_bit_numbers_are_refused():
    assert_unsupported([quantize(Attention().q, quant_type="fp4")], "fp4 with blocks of 64")


def test_blocks_of_another_size_are_refused():
    assert_unsupported([quantize(Attention().q, blocksize=128)], "nf4 with blocks of 128")


def test_blocks_that_span_two_rows_are_refused():
    odd = nn.Linear(96, 64, bias=False)
    assert_unsupported([quantize(odd)], r"a matrix \(64, 96\)")


def test_8_bit_weights_are_refused():
    layer = bitsandbytes.nn.Linear8bitLt(INPUTS, 64, bias=False, has_fp16_weights=False).to("cpu")
    assert_unsupported([layer], "Linear8bitLt is neither dense nor NF4")


def test_what_is_no_linear_layer_is_refused():
    assert_unsupported([nn.Conv1d(INPUTS, 64, 1)], "a Conv1d is neither")


def test_layers_of_one_product_must_be_quantized_alike():
    attention = Attention()
    mixed = [quantize(attention.q), attention.k]
    assert_unsupported(mixed, "some layers of one product are quantized and some are not")


def test_dora_is_refused():
    assert_unsupported(Attention().with_lora(use_dora=True).layers(), "not one plain LoRA")


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")
def test_two_adapters_at_once_are_refused():
    attention = Attention().with_lora()
    inject_adapter_in_model(LoraConfig(target_modules=list(SIZES)), attention, "other")
    for layer in attention.layers():
        layer.set_adapter(["default", "other"])
    assert_unsupported(attention.layers(), "not one plain LoRA")


# What would give other products than the layers do


def test_lora_with_a_bias_of_its_own_is_refused():
    attention = Attention("qkv").with_lora(lora_bias=True)
    assert_unsupported(attention.layers(), "LoRA")


def test_other_variants_of_lora_are_refused():
    attention = Attention().with_lora(task_type="CAUSAL_LM", alora_invocation_tokens=[5])
    assert_unsupported(attention.layers(), "LoRA")


def test_8_bit_floating_point_is_refused():
    assert_unsupported([Attention().q.to(torch.float8_e4m3fn)], "neither dense nor NF4")


def test_layers_that_hold_their_weight_under_another_name_are_refused():
    packed = nn.Module()
    packed.qweight = torch.zeros(8, 64, dtype=torch.int32)
    assert_unsupported([packed], "neither dense nor NF4")
