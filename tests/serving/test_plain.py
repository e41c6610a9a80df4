import dataclasses
import random

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
)

from serving.config import EngineConfig
from serving.core import EngineCore
from serving.decoder import Decoder, UnsupportedModelError
from serving.loader import lay_out
from serving.plain import PlainDecoder
from serving.sampling import SamplingParams
from serving.scheduler import Job
from tests.serving.conftest import NUM_TOKENS
from tests.serving.test_attention import step_of
from tests.serving.test_decoder import (
    IDS,
    MISTRAL,
    OTHER_IDS,
    SIZES,
    add_lora,
    assert_close,
    build,
    logits_of,
    rope,
)

MAX_LENGTH = 48
CONFIG = EngineConfig(max_prompt_tokens=32, max_new_tokens=16)


def quantized(folder, **settings):
    build(MISTRAL).save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=BitsAndBytesConfig(**settings), device_map={"": "cpu"}
    ).eval()


def with_biased_head():
    model = build(MISTRAL)
    model.lm_head = nn.Linear(64, 96)
    return model


WINDOW = MistralConfig(**SIZES, sliding_window=MAX_LENGTH - 1)
WINDOW_OF_SOME = Qwen2Config(
    **SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=1
)
DYNAMIC = LlamaConfig(**{**SIZES, "max_position_embeddings": 16}, **rope("dynamic", factor=4.0))
# How to make each of them, given a folder, and what is said about it.
UNSUPPORTED = {
    "phi": (lambda _: build(PhiConfig(**SIZES)), "phi is none of llama, mistral"),
    "gemma": (lambda _: build(GemmaConfig(**SIZES, head_dim=16)), "gemma is none of"),
    "DoRA": (lambda _: add_lora(build(MISTRAL), use_dora=True), "not one plain LoRA adapter"),
    "8-bit": (lambda folder: quantized(folder, load_in_8bit=True), "Linear8bitLt"),
    "fp4": (lambda folder: quantized(folder, load_in_4bit=True), "fp4 with blocks of 64"),
    "window": (lambda _: build(WINDOW), "sliding window of 47 is shorter than 48 tokens"),
    "window of some layers": (lambda _: build(WINDOW_OF_SOME), "sliding window of 8 is shorter"),
    "dynamic rotation": (lambda _: build(DYNAMIC), "dynamic rotation depends on the length"),
    "activation": (lambda _: build(LlamaConfig(**SIZES, hidden_act="gelu")), "activation is gelu"),
    "biased head": (lambda _: with_biased_head(), "output layer has a bias"),
}
each_unsupported = pytest.mark.parametrize(
    ("make", "problem"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys()
)


@torch.inference_mode()
def read(decoder, *rows):
    return decoder.forward(step_of(*rows))


# Models that the faster decoder does not run


@each_unsupported
def test_a_model_of_another_kind_is_refused_and_left_as_it_was(tmp_path, make, problem):
    model = make(tmp_path)
    names = [name for name, _ in model.named_modules()]
    before = logits_of(model)

    with pytest.raises(UnsupportedModelError, match=problem):
        Decoder(model, max_length=MAX_LENGTH, dense=False)

    assert [name for name, _ in model.named_modules()] == names
    assert torch.equal(logits_of(model), before)


@each_unsupported
def test_it_runs_as_it_is_and_the_log_says_why(tmp_path, caplog, make, problem):
    model = make(tmp_path)
    wanted = logits_of(model)

    decoder = lay_out(model, CONFIG)

    assert isinstance(decoder, PlainDecoder)
    [line] = [record.message for record in caplog.records if record.name == "serving.loader"]
    assert "slow" in line
    assert problem in line
    assert_close(read(decoder, (0, 0, IDS)), wanted[-1:])


def test_a_later_layer_of_another_kind_is_found_before_anything_is_taken():
    model = add_lora(build(MISTRAL), use_dora=True, layers_to_transform=[1])
    wanted = logits_of(model)

    decoder = lay_out(model, CONFIG)

    assert_close(read(decoder, (0, 0, IDS)), wanted[-1:])


@pytest.mark.parametrize("name", ["lm_head", "embed_tokens"])
def test_lora_outside_of_the_layers_is_not_left_out(name):
    model = add_lora(build(MISTRAL), target_modules=["q_proj", name])
    for key, parameter in model.named_parameters():
        if "lora_embedding" in key:
            nn.init.normal_(parameter, std=0.2)
    wanted = logits_of(model)

    decoder = lay_out(model, CONFIG)
    decoder.allocate_cache(64)

    assert_close(read(decoder, (0, 0, IDS)), wanted[-1:])


# Rows


@pytest.fixture
def model():
    return build(PhiConfig(**SIZES))


@pytest.fixture
def decoder(model):
    return PlainDecoder(model, max_length=MAX_LENGTH)


def test_a_prompt_may_be_read_in_parts_with_other_rows_between_them(model, decoder):
    wanted = torch.stack([logits_of(model, ids)[-1] for ids in (IDS, OTHER_IDS, IDS[:4])])

    read(decoder, (0, 0, IDS[:11]), (64, 0, OTHER_IDS[:29]))
    read(decoder, (0, 11, IDS[11:20]))
    found = read(decoder, (0, 20, IDS[20:]), (64, 29, OTHER_IDS[29:]), (128, 0, IDS[:4]))

    assert_close(found, wanted)


def test_a_row_sees_nothing_of_the_one_that_had_its_place_before(model, decoder):
    read(decoder, (16, 0, OTHER_IDS))

    found = torch.cat([read(decoder, (16, 0, IDS[:9])), read(decoder, (16, 9, IDS[9:]))])

    assert_close(found, logits_of(model)[[8, -1]])


def test_what_a_row_has_read_is_forgotten_when_it_is_over(decoder):
    read(decoder, (16, 0, IDS), (64, 0, OTHER_IDS))

    decoder.release(16)
    decoder.release(32)  # a row that never began to read

    assert list(decoder._caches) == [64]


# What is known of it


def test_a_plain_decoder_knows_its_sizes(decoder):
    assert decoder.vocab_size == 96
    assert decoder.max_length == MAX_LENGTH
    assert (decoder.device, decoder.dtype) == (torch.device("cpu"), torch.float32)
    assert not decoder.can_be_captured


def test_no_row_owns_the_spare_place(decoder):
    assert decoder.allocate_cache(64) not in range(64)


GPT2 = GPT2Config(
    vocab_size=NUM_TOKENS, n_embd=64, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3
)


@pytest.mark.parametrize(
    ("config", "heads", "head_dim"),
    [(PhiConfig(**SIZES), 2, 16), (GemmaConfig(**SIZES, head_dim=32), 2, 32), (GPT2, 4, 16)],
    ids=["grouped", "wide heads", "no groups"],
)
def test_the_cache_takes_what_the_layers_keep(config, heads, head_dim):
    decoder = PlainDecoder(build(config), max_length=MAX_LENGTH)
    assert decoder.cache_bytes_per_token == 2 * 2 * heads * head_dim * 4  # layers, both, float32


# Through the engine

LARGER = {**SIZES, "vocab_size": NUM_TOKENS, "max_position_embeddings": 128}
GENERATING = {
    "phi": PhiConfig(**LARGER),
    "gemma": GemmaConfig(**LARGER, head_dim=16),
    "gpt2, learned positions": GPT2,
    "mistral, window": MistralConfig(**LARGER, sliding_window=16),
    "qwen2, window of some layers": Qwen2Config(
        **LARGER, use_sliding_window=True, sliding_window=16, max_window_layers=1
    ),
}
EOS_ID = 2
SUPPRESSED_IDS = (0, 1, *range(5, NUM_TOKENS, 7))


def make_prompts():
    source = random.Random(0)
    lengths = [1, 2, 15, 16, 17, 60, *(source.randint(1, 60) for _ in range(6))]
    return [[source.randrange(NUM_TOKENS) for _ in range(length)] for length in lengths]


def greedy_jobs(prompts):
    return [Job(ids, SamplingParams(max_new_tokens=12)) for ids in prompts]


def generate(model, job, suppressed_ids=SUPPRESSED_IDS):
    """Ids of the likeliest answer, as transformers finds it."""
    ids = model.generate(
        torch.tensor([job.prompt_ids]),
        attention_mask=torch.ones(1, len(job.prompt_ids), dtype=torch.long),
        do_sample=False,
        min_new_tokens=1,
        max_new_tokens=job.params.max_new_tokens,
        eos_token_id=EOS_ID,
        pad_token_id=EOS_ID,
        suppress_tokens=list(suppressed_ids),
    )[0, len(job.prompt_ids) :].tolist()
    return ids[:-1] if ids[-1] == EOS_ID else ids


@pytest.fixture
def make_core(loaded):
    def make(model, **values):
        config = EngineConfig(max_prompt_tokens=64, max_new_tokens=16, **values)
        plain = lay_out(model, config)
        assert isinstance(plain, PlainDecoder)
        return EngineCore(
            dataclasses.replace(loaded, model=plain, suppressed_ids=SUPPRESSED_IDS), config
        )

    return make


@pytest.mark.slow
@pytest.mark.parametrize("config", GENERATING.values(), ids=GENERATING.keys())
def test_greedy_answers_are_those_of_transformers(make_core, config):
    model, prompts = build(config), make_prompts()
    wanted = [generate(model, job) for job in greedy_jobs(prompts)]
    assert len({tuple(answer) for answer in wanted}) == len(prompts)

    for values in (
        {"max_batch_size": 1},
        {"max_batch_size": 4},
        {"max_batch_size": 12, "prompt_tokens_per_step": 7},
    ):
        outputs = make_core(model, **values).run(greedy_jobs(prompts))
        assert [output.ids for output in outputs] == wanted, values


@pytest.mark.slow
@pytest.mark.xfail(
    raises=AssertionError, reason="the model keeps one rotation: that of the longest row so far"
)
@pytest.mark.parametrize("rows", [1, 4])
def test_greedy_answers_with_dynamic_rotation_are_those_of_transformers(make_core, rows):
    config = LlamaConfig(**{**LARGER, "max_position_embeddings": 32}, **rope("dynamic", factor=4.0))
    prompts = make_prompts()
    wanted = [generate(build(config), job) for job in greedy_jobs(prompts)]

    outputs = make_core(build(config), max_batch_size=rows).run(greedy_jobs(prompts))

    assert [output.ids for output in outputs] == wanted


def test_a_prompt_that_had_to_be_read_again_has_its_tokens_once():
    model = build(PhiConfig(**SIZES))
    wanted = logits_of(model)
    plain = PlainDecoder(model, max_length=64)
    read(plain, (0, 0, IDS[:4]))
    read(plain, (0, 4, IDS[4:8]))

    read(plain, (0, 4, IDS[4:8]))

    assert_close(read(plain, (0, 8, IDS[8:])), wanted[-1:])
