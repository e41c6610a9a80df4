import dataclasses
import json
import random
import shutil

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from adapters.manifest import WEIGHTS_NAME, AdapterManifest, AdapterMismatchError
from serving.base_model import grow_embeddings, load_base
from serving.core import EngineCore
from serving.decoder import Decoder
from serving.loader import attach_adapter, lay_out, load
from serving.plain import PlainDecoder
from serving.sampling import SamplingParams
from serving.scheduler import Job
from tests.serving.conftest import NUM_TOKENS, STYLES, save_manifest
from tests.serving.test_decoder import assert_close, in_full_precision, read_one_by_one
from tests.serving.test_plain import generate

pytestmark = pytest.mark.slow

PREFIX = "base_model.model.model"
LORA = f"{PREFIX}.layers.0.self_attn.q_proj.lora_A.weight"
OTHER_LORA = f"{PREFIX}.layers.1.mlp.up_proj.lora_B.weight"
STRAY = "base_model.model.score.lora_A.weight"
ROWS = f"{PREFIX}.embed_tokens.token_adapter.trainable_tokens_delta"


def text_of(token_ids):
    """A sentence that holds the style tokens and every 9th other token."""
    return [1, *token_ids.values(), *range(7, NUM_TOKENS, 9)]


def logits_of(loaded, token_ids):
    """What a loaded model makes of that sentence, token by token."""
    loaded.model.allocate_cache(64)
    return read_one_by_one(loaded.model, 0, text_of(token_ids))[:, :NUM_TOKENS]


@torch.inference_mode()
def reference_logits(model, token_ids):
    """What transformers makes of it."""
    model = in_full_precision(model.eval())
    return model(input_ids=torch.tensor([text_of(token_ids)])).logits[0, :, :NUM_TOKENS]


def base_of(tiny, quantization):
    base = load_base(tiny.base, "cpu", quantization)
    grow_embeddings(base, max(tiny.token_ids.values()) + 1)
    return base


def peft_logits(tiny, quantization="none"):
    peft_model = PeftModel.from_pretrained(base_of(tiny, quantization), tiny.adapter)
    return reference_logits(peft_model, tiny.token_ids)


def attached(tiny, quantization="none"):
    """The adapter beside its base, before both are laid out for generation."""
    return attach_adapter(base_of(tiny, quantization), tiny.adapter)


def change_weights(tiny, change):
    """Change the adapter's tensors, and the manifest so that it knows."""
    path = tiny.adapter / WEIGHTS_NAME
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    save_manifest(tiny.adapter, tiny.base, tiny.token_ids)


def change_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def problems_of(tiny, change):
    """What is found wrong; every problem must be in the message too."""
    change_weights(tiny, change)
    with pytest.raises(AdapterMismatchError) as caught:
        load(tiny.config())
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


# The adapter at work


@pytest.mark.parametrize("weights", ["auto", "nf4", "bf16"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("fixture", ["tiny", "tiny_grown"])
def test_the_logits_are_those_of_peft(fixture, quantization, weights, request):
    tiny = request.getfixturevalue(fixture)
    loaded = load(tiny.config(quantization=quantization, weights=weights))
    assert isinstance(loaded.model, Decoder)
    assert_close(logits_of(loaded, tiny.token_ids), peft_logits(tiny, quantization))


def test_the_adapter_makes_a_difference(tiny):
    bare = load(tiny.config(), with_adapter=False)
    difference = logits_of(load(tiny.config()), tiny.token_ids) - logits_of(bare, tiny.token_ids)
    assert float(difference.abs().mean()) > 0.1


def test_an_adapter_for_stretched_positions_gets_them(own_tiny):
    manifest = AdapterManifest.from_json((own_tiny.adapter / "manifest.json").read_text())
    dataclasses.replace(manifest, rope_factor=4.0).save(own_tiny.adapter)
    base = load_base(own_tiny.base, "cpu", "none", rope_factor=4.0)
    wanted = reference_logits(PeftModel.from_pretrained(base, own_tiny.adapter), own_tiny.token_ids)

    found = logits_of(load(own_tiny.config()), own_tiny.token_ids)

    assert_close(found, wanted)
    assert float((found - peft_logits(own_tiny)).abs().mean()) > 0.01


@pytest.mark.parametrize(("weights", "dense"), [("auto", False), ("nf4", False), ("bf16", True)])
def test_weights_are_expanded_if_the_settings_say_so(tiny, monkeypatch, weights, dense):
    asked = {}
    monkeypatch.setattr("serving.loader.Decoder", lambda model, **values: asked.update(values))
    lay_out(None, tiny.config(weights=weights, max_prompt_tokens=100, max_new_tokens=11))
    assert asked == {"dense": dense, "max_length": 111}


def test_every_linear_layer_gets_its_lora_apart_from_the_weights_of_the_base(tiny):
    model = attached(tiny)
    want = load_file(tiny.base / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    assert torch.equal(model.model.layers[0].self_attn.q_proj.base_layer.weight, want)
    assert len([name for name, _ in model.named_parameters() if "lora_" in name]) == 2 * 2 * 7


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("fixture", ["tiny", "tiny_grown"])
def test_the_row_of_a_style_token_is_the_trained_one(fixture, quantization, request):
    tiny = request.getfixturevalue(fixture)
    weight = attached(tiny, quantization).get_input_embeddings().weight
    assert torch.equal(weight[list(tiny.token_ids.values())], tiny.rows)


def test_the_rows_of_all_other_tokens_are_the_base_s(tiny):
    others = [i for i in range(384) if i not in tiny.token_ids.values()]
    want = load_file(tiny.base / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(attached(tiny).get_input_embeddings().weight[others], want[others])


def test_rows_are_put_where_the_settings_say_whatever_their_order(own_tiny):
    path = own_tiny.adapter / "adapter_config.json"
    indices = json.loads(path.read_text())["trainable_token_indices"]["embed_tokens"]
    change_json(path, trainable_token_indices={"embed_tokens": indices[::-1]})
    change_weights(own_tiny, lambda tensors: tensors.update({ROWS: tensors[ROWS].flip(0).clone()}))
    weight = attached(own_tiny).get_input_embeddings().weight
    assert torch.equal(weight[list(own_tiny.token_ids.values())], own_tiny.rows)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("saved", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lora_takes_the_precision_of_the_model(own_tiny, quantization, saved, dtype):
    change_weights(own_tiny, lambda tensors: tensors.update({LORA: tensors[LORA].to(saved)}))
    base = load_base(own_tiny.base, "cpu", quantization, dtype)
    parameters = attach_adapter(base, own_tiny.adapter).named_parameters()
    assert {value.dtype for name, value in parameters if "lora_" in name} == {dtype}


# A base that the faster decoder does not run


def test_a_base_of_another_kind_runs_as_it_is_and_the_log_says_why(own_tiny, tmp_path, caplog):
    windowed = dataclasses.replace(own_tiny, base=tmp_path / "base")
    shutil.copytree(own_tiny.base, windowed.base)
    change_json(windowed.base / "config.json", sliding_window=20)
    change_json(windowed.adapter / "adapter_config.json", lora_dropout=0.5)
    save_manifest(windowed.adapter, windowed.base, windowed.token_ids)

    loaded = load(windowed.config())

    assert isinstance(loaded.model, PlainDecoder)
    assert "slow: its sliding window of 20 is shorter than 1536 tokens" in caplog.text
    assert_close(logits_of(loaded, windowed.token_ids), peft_logits(windowed))
    assert not torch.allclose(peft_logits(windowed), peft_logits(own_tiny), atol=0.1)


# What goes with the model


def test_what_was_loaded_is_described(tiny, loaded):
    assert loaded.manifest.styles == STYLES
    assert loaded.prompt.token_id(STYLES[0].token) == tiny.token_ids["short"]
    assert loaded.prompt.eos_id == 2
    assert loaded.model.vocab_size == 384
    assert loaded.model.max_length == tiny.config().max_length


def test_all_control_tokens_but_the_end_of_text_are_suppressed(tiny, loaded):
    controls = {0, 1, 3, 4, *tiny.token_ids.values()}
    assert controls <= set(loaded.suppressed_ids)
    assert 2 not in loaded.suppressed_ids


def test_rows_that_no_token_has_are_suppressed(loaded):
    assert set(range(NUM_TOKENS, 384)) <= set(loaded.suppressed_ids)


def test_no_plain_token_is_suppressed(loaded):
    assert set(range(7, NUM_TOKENS)).isdisjoint(loaded.suppressed_ids)


def test_tokens_and_rows_that_an_adapter_adds_are_suppressed(tiny_grown):
    loaded = load(tiny_grown.config())
    assert loaded.model.vocab_size == 384
    assert list(tiny_grown.token_ids.values()) == [320, 321]
    assert set(range(320, 384)) <= set(loaded.suppressed_ids)


# Without the adapter


@pytest.mark.parametrize("fixture", ["tiny", "tiny_grown"])
def test_without_the_adapter_the_base_keeps_its_weights(fixture, request):
    tiny = request.getfixturevalue(fixture)
    loaded = load(tiny.config(), with_adapter=False)
    plain_words = {"first": 5, "second": 6}  # the rows of new style tokens are random
    want = reference_logits(load_base(tiny.base, "cpu", "none"), plain_words)
    assert loaded.model.vocab_size == 384  # there is room for the adapter's tokens
    assert_close(logits_of(loaded, plain_words), want)


def test_without_the_adapter_prompts_are_read_with_its_tokenizer(tiny, loaded):
    bare = load(tiny.config(), with_adapter=False)
    assert bare.prompt.token_id(STYLES[1].token) == tiny.token_ids["long"]
    assert bare.suppressed_ids == loaded.suppressed_ids


# Adapters that do not fit, although their checksums do

SPOILED = {
    "missing": (lambda tensors: tensors.pop(LORA), ["lacks", LORA.removesuffix(".weight")]),
    "stray": (lambda tensors: tensors.update({STRAY: torch.ones(4, 64)}), ["stray", "score"]),
    "of another shape": (
        lambda tensors: tensors.update({LORA: torch.ones(5, 64)}),
        ["layers.0.self_attn.q_proj.lora_A", "the shape (5, 64), not (4, 64)"],
    ),
    "no token rows": (lambda tensors: tensors.pop(ROWS), ["shape (2, 64) expected, found []"]),
}


@pytest.mark.parametrize(("spoil", "parts"), SPOILED.values(), ids=SPOILED.keys())
def test_a_tensor_that_does_not_fit_is_named(own_tiny, spoil, parts):
    [problem] = problems_of(own_tiny, spoil)
    for part in parts:
        assert part in problem


@pytest.mark.parametrize("shape", [(1, 64), (3, 64), (2, 32)])
def test_token_rows_of_another_shape_are_a_problem(own_tiny, shape):
    [problem] = problems_of(own_tiny, lambda tensors: tensors.update({ROWS: torch.ones(shape)}))
    assert f"token rows of shape (2, 64) expected, found [{shape}]" in problem


def test_all_problems_are_listed_together(own_tiny):
    def spoil(tensors):
        del tensors[OTHER_LORA]
        tensors.update({LORA: torch.ones(5, 64), STRAY: torch.ones(4, 64), ROWS: torch.ones(1, 64)})

    problems = problems_of(own_tiny, spoil)

    assert len(problems) == 4
    for part in ("layers.0.self_attn.q_proj", "layers.1.mlp.up_proj", "score", "token rows"):
        assert part in "\n".join(problems)


def test_a_damaged_file_is_found_before_any_model_is_loaded(own_tiny):
    path = own_tiny.adapter / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AdapterMismatchError, match=WEIGHTS_NAME):
        load(own_tiny.config())


# The bundled base


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_greedy_answers_are_token_for_token_those_of_transformers(pocket, quantization):
    config = pocket.config(quantization=quantization, max_batch_size=16)
    loaded = load(config)
    base = base_of(pocket, quantization)
    model = in_full_precision(PeftModel.from_pretrained(base, pocket.adapter).eval())
    source = random.Random(0)
    lengths = [1, 900, *(round(900 ** source.random()) for _ in range(98))]
    plain = sorted(set(range(loaded.model.vocab_size)) - set(loaded.suppressed_ids))
    prompts = [source.choices(plain, k=length) for length in lengths]

    def jobs():  # long prompts take long enough
        limits = [8 if length > 100 else 16 for length in lengths]
        params = [SamplingParams(max_new_tokens=limit) for limit in limits]
        return list(map(Job, prompts, params))

    wanted = [generate(model, job, loaded.suppressed_ids) for job in jobs()]
    core = EngineCore(loaded, config)
    alone = [core.run([job])[0].ids for job in jobs()]
    together = [output.ids for output in core.run(jobs())]

    assert isinstance(loaded.model, Decoder)
    assert len({tuple(ids) for ids in wanted}) > 50
    assert alone == wanted
    assert together == wanted
