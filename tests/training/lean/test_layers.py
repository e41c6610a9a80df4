"""Lean layers against those of transformers."""

import copy

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from training.lean.layers import lighten_layers

SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
}
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11]])


def make_model(kind, **changes):
    torch.manual_seed(4)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def passed(model):
    logits = model(input_ids=IDS).logits
    (logits * torch.linspace(-1, 1, 32)).sum().backward()
    return {"logits": logits, **{name: p.grad for name, p in model.named_parameters()}}


@pytest.mark.parametrize(
    ("kind", "layers"), [("mistral", 7), ("llama", 7), ("qwen2", 7), ("qwen3", 11)]
)
def test_output_and_gradients_are_those_of_transformers(kind, layers):
    wanted_of = make_model(kind)
    found_of = copy.deepcopy(wanted_of)

    assert lighten_layers(found_of) == layers

    wanted, found = passed(wanted_of), passed(found_of)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_in_low_precision_they_are_as_close_to_the_truth(dtype):
    exact = make_model("mistral").double()(input_ids=IDS).logits
    plain, lean = make_model("mistral").to(dtype), make_model("mistral").to(dtype)
    lighten_layers(lean)

    found, wanted = (model(input_ids=IDS).logits for model in (lean, plain))

    assert found.dtype == wanted.dtype
    assert (found - exact).norm() < 1.2 * (wanted - exact).norm() + 1e-6


def test_norms_whose_weight_is_an_offset_are_left_alone():
    model = make_model("gemma")

    assert lighten_layers(model) == 0


def test_layers_with_another_activation_are_left_alone():
    model = make_model("mistral", hidden_act="gelu")

    assert lighten_layers(model) == 5  # the norms


def test_gated_layers_keep_two_tensors_of_their_width_and_the_product():
    model = make_model("mistral", num_hidden_layers=1)
    lighten_layers(model)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    kept = {}
    x = torch.randn(1, 7, 16, requires_grad=True)

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model.layers[0].mlp(x)

    assert sum(tensor.shape[-1] == 24 and tensor.ndim == 3 for tensor in kept.values()) == 2
