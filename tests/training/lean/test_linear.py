"""The fused layer against PEFT's own, in the 4-bit format of a CPU."""

import copy

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from torch import nn

from training.lean.linear import FusedLinear4bit, fuse_lora

FEATURES = 64


def make_model(*, dropout=0.0, bias=False):
    torch.manual_seed(3)
    plain = nn.Sequential(
        nn.Linear(FEATURES, 2 * FEATURES, bias=bias), nn.Linear(2 * FEATURES, FEATURES)
    )
    model = nn.Sequential(
        Linear4bit(FEATURES, 2 * FEATURES, bias, torch.float32, quant_type="nf4"),
        Linear4bit(2 * FEATURES, FEATURES, True, torch.float32, quant_type="nf4"),
    )
    model.load_state_dict(plain.state_dict())
    model.is_loaded_in_4bit = True  # PEFT looks at what transformers sets
    lora = LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=["0", "1"])
    model = get_peft_model(model.to("cpu"), lora)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def passed(model, x):
    """Output and gradients of one pass, dropout from a fixed seed."""
    x = x.clone().requires_grad_()
    torch.manual_seed(7)
    result = model(x)
    (result * torch.linspace(-1, 1, FEATURES)).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"result": result, "x": x.grad, **gradients}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5,), (2, 3), ()])
def test_output_and_gradients_are_pefts(dropout, bias, shape):
    wanted_of = make_model(dropout=dropout, bias=bias)
    found_of = copy.deepcopy(wanted_of)
    x = torch.randn(*shape, FEATURES)

    assert fuse_lora(found_of) == 2

    wanted, found = passed(wanted_of, x), passed(found_of, x)
    assert found.keys() == wanted.keys()
    assert len(wanted) == 6  # result, x and two pairs
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5), name


def test_under_autocast_products_are_rounded_and_gradients_are_not():
    model = make_model()
    fuse_lora(model)
    x = torch.randn(5, FEATURES)
    exact = passed(model, x)
    model.zero_grad()

    with torch.autocast("cpu", torch.bfloat16):
        found = passed(model, x)

    assert found["result"].dtype == torch.bfloat16
    for name, gradient in found.items():
        if name != "result":
            assert gradient.dtype == torch.float32
        assert (gradient - exact[name]).norm() < 0.03 * exact[name].norm()


def test_without_its_adapter_the_layer_is_the_base():
    model = make_model()
    fuse_lora(model)
    x = torch.randn(5, FEATURES)

    with model.disable_adapter():
        found = model(x)

    wanted = nn.Sequential(*(layer.base_layer for layer in model.base_model.model))(x)
    assert torch.equal(found, wanted)


def test_the_active_adapter_of_several_is_used():
    model = make_model()
    model.add_adapter("other", LoraConfig(r=4, target_modules=["0", "1"]))
    fuse_lora(model)
    x = torch.randn(5, FEATURES)
    first = model(x)

    model.set_adapter("other")  # whose B is zero

    with model.disable_adapter():
        base = model(x)
    assert torch.allclose(model(x), base, atol=1e-6)
    assert not torch.allclose(first, base, atol=1e-2)


def test_dora_is_left_to_peft():
    torch.manual_seed(3)
    model = nn.Sequential(Linear4bit(FEATURES, FEATURES, False, torch.float32, quant_type="nf4"))
    model.is_loaded_in_4bit = True
    model = get_peft_model(model.to("cpu"), LoraConfig(r=4, use_dora=True, target_modules=["0"]))
    wanted_of = copy.deepcopy(model)
    fuse_lora(model)
    x = torch.randn(5, FEATURES)

    assert isinstance(model.base_model.model[0], FusedLinear4bit)
    assert torch.equal(model(x), wanted_of(x))


def test_layers_that_are_not_in_4_bit_are_left_alone():
    model = get_peft_model(nn.Sequential(nn.Linear(8, 8)), LoraConfig(r=2, target_modules=["0"]))

    assert fuse_lora(model) == 0
