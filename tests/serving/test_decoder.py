import copy
import functools

import bitsandbytes
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from serving import ops
from serving.base_model import load_base
from serving.decoder import Decoder
from serving.linear import projection
from tests.serving.test_attention import step_of

pytestmark = pytest.mark.slow

MAX_LENGTH = 48
SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # attention must matter to what comes out
}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.randint(96, (30,), generator=torch.Generator().manual_seed(3)).tolist()
OTHER_IDS = torch.randint(96, (30,), generator=torch.Generator().manual_seed(4)).tolist()


def rope(kind, **values):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **values}}


SHORTER = {"original_max_position_embeddings": 16}
LLAMA3 = rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, **SHORTER)
MISTRAL = MistralConfig(**SIZES, sliding_window=None)
CONFIGS = {
    "mistral": MISTRAL,
    "mistral, wide window": MistralConfig(**SIZES, sliding_window=MAX_LENGTH),
    "mistral, wide heads": MistralConfig(**SIZES, head_dim=32, sliding_window=None),
    "llama, biases and llama3": LlamaConfig(**SIZES, **LLAMA3, attention_bias=True, mlp_bias=True),
    "llama, no groups": LlamaConfig(**{**SIZES, "num_key_value_heads": 4}),
    "llama, one group": LlamaConfig(**{**SIZES, "num_key_value_heads": 1}),
    "llama, tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama, linear": LlamaConfig(**SIZES, **rope("linear", factor=4.0)),
    "llama, yarn": LlamaConfig(**SIZES, **rope("yarn", factor=4.0, **SHORTER)),
    "qwen2": Qwen2Config(**SIZES, sliding_window=8, use_sliding_window=False),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
    "qwen3, biases": Qwen3Config(**SIZES, head_dim=16, attention_bias=True),
}
LORAS = {
    "all": {},
    "some": {"target_modules": ["q_proj", "up_proj"]},
    "others": {"target_modules": ["v_proj", "o_proj", "down_proj"]},
    "rank-stabilized": {"use_rslora": True},
    "one layer": {"layers_to_transform": [1]},
}


def build(config):
    """A model whose norms and biases do something, too."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter, std=0.3)
        elif "norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def add_lora(model, **settings):
    """The model with random LoRA pairs, as after a training."""
    settings = {"r": 4, "lora_alpha": 6, "target_modules": LINEAR, **settings}
    peft_model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(1)
    for name, parameter in peft_model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return peft_model.eval().get_base_model()


@torch.inference_mode()
def logits_of(model, ids=IDS):
    """What transformers computes: [ids, vocabulary]."""
    return model(input_ids=torch.tensor([ids])).logits[0]


def in_full_precision(model):
    """The model, whose 4-bit layers would compute in bfloat16 on processors that can."""
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False
    return model


def lay_out(model, *, dense=False):
    decoder = Decoder(model, max_length=MAX_LENGTH, dense=dense)
    decoder.allocate_cache(256)
    return decoder


@torch.inference_mode()
def read(decoder, *rows):
    return decoder.forward(step_of(*rows))


def read_one_by_one(decoder, start, ids):
    return torch.cat([read(decoder, (start, place, [id_])) for place, id_ in enumerate(ids)])


assert_close = functools.partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
both_ways = pytest.mark.parametrize("dense", [False, True], ids=["apart", "merged"])


# Against transformers


@both_ways
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_logits_are_those_of_transformers(config, dense):
    model = build(config)
    wanted = logits_of(model)

    decoder = lay_out(model, dense=dense)

    assert_close(read_one_by_one(decoder, 16, IDS), wanted)
    assert_close(read(decoder, (128, 0, IDS)), wanted[-1:])


@both_ways
@pytest.mark.parametrize("settings", LORAS.values(), ids=LORAS.keys())
@pytest.mark.parametrize("name", ["mistral", "llama, biases and llama3", "qwen3"])
def test_with_lora_the_logits_are_those_of_peft(name, settings, dense):
    bare = logits_of(build(CONFIGS[name]))
    model = add_lora(build(CONFIGS[name]), **settings)
    wanted = logits_of(model)
    assert (wanted - bare).abs().mean() > 0.1

    decoder = lay_out(model, dense=dense)

    assert_close(read_one_by_one(decoder, 16, IDS), wanted)


@pytest.mark.slow
@both_ways
@pytest.mark.parametrize("settings", [None, *LORAS.values()], ids=["no LoRA", *LORAS.keys()])
@pytest.mark.parametrize("name", ["mistral", "llama, biases and llama3", "qwen2"])
def test_in_4_bit_the_logits_are_those_of_transformers(tmp_path, name, settings, dense):
    build(CONFIGS[name]).save_pretrained(tmp_path)
    model = load_base(tmp_path, "cpu", "nf4").eval()
    if settings is not None:
        model = add_lora(model, **settings)
    wanted = logits_of(in_full_precision(copy.deepcopy(model)))

    decoder = lay_out(model, dense=dense)

    assert_close(read_one_by_one(decoder, 16, IDS), wanted)
    assert_close(read(decoder, (128, 0, IDS)), wanted[-1:])


@pytest.mark.slow
@both_ways
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_in_half_precision_the_logits_stay_close(tmp_path, monkeypatch, quantization, dense):
    def record(residual, *others):
        residuals.add(residual.dtype)
        return norm(residual, *others)

    residuals, norm = set(), ops.add_rms_norm
    monkeypatch.setattr(ops, "add_rms_norm", record)
    build(CONFIGS["qwen3"]).bfloat16().save_pretrained(tmp_path)
    full = add_lora(load_base(tmp_path, "cpu", quantization))
    half = add_lora(load_base(tmp_path, "cpu", quantization, torch.bfloat16))
    wanted = logits_of(in_full_precision(full))

    found = read_one_by_one(lay_out(half, dense=dense), 16, IDS)

    assert found.dtype == torch.bfloat16
    assert residuals == {torch.float32}
    assert (found - wanted).norm() / wanted.norm() < 3e-2


@both_ways
def test_weights_are_expanded_and_merged_only_if_that_is_asked_for(monkeypatch, dense):
    asked = []

    def record(layers, dtype, *, dense):
        asked.append(dense)
        return projection(layers, dtype, dense=dense)

    model = add_lora(build(MISTRAL))
    monkeypatch.setattr("serving.decoder.projection", record)
    lay_out(model, dense=dense)

    assert asked[-8:] == [dense] * 8  # four products in each of two layers


# Rows and their places in the cache


@pytest.fixture
def decoder():
    return lay_out(add_lora(build(MISTRAL)))


@pytest.mark.parametrize("sizes", [[1, 29], [29, 1], [10, 10, 10], [2, 3, 5, 7, 11, 2]])
def test_a_prompt_read_in_parts_is_a_prompt_read_at_once(decoder, sizes):
    wanted = read(decoder, (0, 0, IDS))

    first = 0
    for size in sizes:
        found = read(decoder, (64, first, IDS[first : first + size]))
        first += size

    assert_close(found, wanted)


def test_rows_of_different_lengths_together_are_the_rows_alone(decoder):
    rows = [(96, 0, IDS[:7]), (0, 0, IDS), (32, 0, IDS[5:6]), (48, 0, IDS[3:25]), (224, 0, IDS)]
    alone = torch.cat([read(decoder, row) for row in rows])

    assert_close(read(decoder, *rows), alone)


def test_prompts_parts_of_prompts_and_single_tokens_share_a_step(decoder):
    wanted = torch.cat([read(decoder, (0, 0, ids)) for ids in (IDS, OTHER_IDS, IDS[:9])])

    read(decoder, (160, 0, OTHER_IDS[:29]), (16, 0, IDS[:20]))
    found = read(decoder, (16, 20, IDS[20:]), (160, 29, OTHER_IDS[29:]), (64, 0, IDS[:9]))

    assert_close(found, wanted)


def test_what_a_row_reads_does_not_matter_to_its_neighbours(decoder):
    def answers(neighbour):
        rows = [(48, 0, IDS[:16]), (64, 0, neighbour), (96, 0, OTHER_IDS[:12])]
        first = read(decoder, *rows)
        then = [(48, 16, [7]), (64, 16, [neighbour[0]]), (96, 12, [8])]
        return torch.cat([first, read(decoder, *then)])

    found, others = answers(IDS[3:19]), answers(OTHER_IDS[3:19])

    mine = [0, 2, 3, 5]
    assert torch.equal(found[mine], others[mine])
    assert not torch.isclose(found[[1, 4]], others[[1, 4]]).all(dim=-1).any()


def test_a_row_sees_nothing_of_the_one_that_had_its_place_before(decoder):
    wanted = read_one_by_one(decoder, 0, IDS[:10])

    read(decoder, (0, 0, OTHER_IDS))
    decoder.release(0)

    assert torch.equal(read_one_by_one(decoder, 0, IDS[:10]), wanted)


def test_a_row_without_a_request_changes_nothing(decoder):
    spare = decoder.allocate_cache(64)
    wanted = read_one_by_one(decoder, 0, IDS)
    read(decoder, (0, 0, IDS[:29]), (32, 0, OTHER_IDS))

    found = read(decoder, (0, 29, IDS[29:]), (spare, 0, [5]), (spare, 0, [0]))

    assert spare not in range(64)
    assert_close(found[0], wanted[-1])


def test_a_row_can_be_as_long_as_was_said():
    model = build(CONFIGS["mistral, wide window"])
    ids = (IDS + OTHER_IDS)[:MAX_LENGTH]
    wanted = logits_of(model, ids)

    assert_close(read_one_by_one(lay_out(model), 0, ids), wanted)


# What is known of it


def test_a_decoder_knows_its_sizes(decoder):
    assert decoder.vocab_size == 96
    assert decoder.max_length == MAX_LENGTH
    assert (decoder.device, decoder.dtype) == (torch.device("cpu"), torch.float32)
    assert decoder.cache_bytes_per_token == 2 * 2 * (2 * 16) * 4  # layers, both, heads, float32
    assert not decoder.can_be_captured


def test_the_layers_are_taken_out_of_the_model():
    model = build(MISTRAL)
    lay_out(model)
    assert [type(layer) for layer in model.model.layers] == [nn.Identity] * 2
