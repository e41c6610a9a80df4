import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn

from adapters.manifest import WEIGHTS_NAME
from serving.base_model import load_base
from serving.loader import attach_adapter
from tests.training.conftest import make_tiny_adapter
from training.shipping.merged_weights import merge_layers, round_weights

pytestmark = pytest.mark.slow

IDS = torch.tensor([[1, 3, 10, 50, 60, 70, 4]])
VARIANTS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "ranks that differ": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}},
}


@pytest.fixture(scope="module", params=VARIANTS)
def adapter(request, tiny_base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variant") / "tiny"
    return make_tiny_adapter(tiny_base, folder, **VARIANTS[request.param])


def attached(base, adapter, quantization="none", dtype=torch.float32):
    return attach_adapter(load_base(base, "cpu", quantization, dtype), adapter)


@torch.no_grad()
def logits_of(model):
    # in training mode bitsandbytes computes in float32 on every processor
    return model.train()(IDS).logits


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_the_merged_model_is_the_same_function(tiny_base, adapter, quantization):
    model = attached(tiny_base, adapter, quantization)
    want = logits_of(model)

    merge_layers(model, load_file(adapter / WEIGHTS_NAME), torch.float32)

    torch.testing.assert_close(logits_of(model), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_nothing_of_the_adapter_or_of_4_bit_is_left(tiny_base, tiny_adapter, quantization):
    model = attached(tiny_base, tiny_adapter, quantization)

    merge_layers(model, load_file(tiny_adapter / WEIGHTS_NAME), torch.bfloat16)
    round_weights(model, torch.bfloat16)

    assert not [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    assert {type(model.lm_head), type(model.model.layers[0].mlp.up_proj)} == {nn.Linear}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not hasattr(model.config, "quantization_config")
    assert {name for name, _ in model.named_parameters()} == {
        name for name, _ in load_base(tiny_base, "cpu", "none").named_parameters()
    }


def test_4_bit_layers_without_lora_are_written_out_too(tiny_base, tmp_path):
    adapter = make_tiny_adapter(tiny_base, tmp_path / "few", exclude_modules=["down_proj"])
    model = attached(tiny_base, adapter, "nf4")
    want = logits_of(model)

    merge_layers(model, load_file(adapter / WEIGHTS_NAME), torch.float32)

    assert type(model.model.layers[1].mlp.down_proj) is nn.Linear
    torch.testing.assert_close(logits_of(model), want, rtol=0, atol=1e-4)


def test_sums_are_rounded_only_once(tiny_base, tiny_adapter):
    # beside a bfloat16 base the server rounds the adapter; a merge must not
    model = attached(tiny_base, tiny_adapter, dtype=torch.bfloat16)
    tensors = load_file(tiny_adapter / WEIGHTS_NAME)
    name = "model.layers.0.self_attn.q_proj"
    weight = model.get_submodule(name).base_layer.weight.float()

    merge_layers(model, tensors, torch.bfloat16)

    a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
    want = (weight + b @ a * 2).to(torch.bfloat16)  # alpha 8 over rank 4
    assert torch.equal(model.get_submodule(name).weight, want)


@pytest.mark.parametrize("name", ["model.norm", "model.layers.0.mlp.up_proj"])
def test_what_float16_cannot_hold_is_refused(tiny_base, name):
    model = load_base(tiny_base, "cpu", "none", torch.float32)
    with torch.no_grad():
        model.get_submodule(name).weight[0] = 1e6

    with pytest.raises(ValueError, match=rf"{name}.weight .* use --dtype bfloat16"):
        round_weights(model, torch.float16)
