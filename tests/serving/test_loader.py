import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from adapters.manifest import WEIGHTS_NAME, AdapterMismatchError
from adapters.styles import Preset
from serving.base_model import grow_embeddings, load_base
from serving.loader import load
from serving.runner import Row, generate
from serving.sampler import SamplingParams
from tests.serving.conftest import NUM_TOKENS, STYLES, save_manifest

pytestmark = pytest.mark.slow

PREFIX = "base_model.model.model"
LORA = f"{PREFIX}.layers.0.self_attn.q_proj.lora_A.weight"
OTHER_LORA = f"{PREFIX}.layers.1.mlp.up_proj.lora_B.weight"
ROWS = f"{PREFIX}.embed_tokens.token_adapter.trainable_tokens_delta"


@torch.no_grad()
def logits_of(model, token_ids):
    """Logits of a sentence that holds the style tokens and every 9th other token."""
    ids = torch.tensor([[1, *token_ids.values(), *range(7, NUM_TOKENS, 9)]])
    return model(input_ids=ids).logits[0, :, :NUM_TOKENS]


def base_logits(tiny):
    return logits_of(load_base(tiny.base, "cpu", "none").eval(), tiny.token_ids)


def change_weights(tiny, change):
    """Change the adapter's tensors, and the manifest so that it knows."""
    path = tiny.adapter / WEIGHTS_NAME
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    save_manifest(tiny.adapter, tiny.base, tiny.token_ids)


def problems_of(tiny, change):
    """What is found wrong; every problem must be in the message too."""
    change_weights(tiny, change)
    with pytest.raises(AdapterMismatchError) as caught:
        load(tiny.config())
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


# The adapter at work


def test_the_logits_are_those_of_peft(tiny, loaded):
    reference = PeftModel.from_pretrained(load_base(tiny.base, "cpu", "none"), tiny.adapter).eval()
    want = logits_of(reference, tiny.token_ids)
    torch.testing.assert_close(logits_of(loaded.model, tiny.token_ids), want, atol=1e-5, rtol=1e-5)


def test_the_logits_are_those_of_peft_when_the_embedding_grew(tiny_grown):
    base = load_base(tiny_grown.base, "cpu", "none")
    grow_embeddings(base, NUM_TOKENS + 2)
    reference = PeftModel.from_pretrained(base, tiny_grown.adapter).eval()
    want = logits_of(reference, tiny_grown.token_ids)
    have = logits_of(load(tiny_grown.config()).model, tiny_grown.token_ids)
    torch.testing.assert_close(have, want, atol=1e-5, rtol=1e-5)


def test_the_adapter_makes_a_difference(tiny, loaded):
    difference = logits_of(loaded.model, tiny.token_ids) - base_logits(tiny)
    assert float(difference.abs().mean()) > 0.1


def test_the_lora_layers_stay_apart_from_the_weights_of_the_base(tiny, loaded):
    want = load_file(tiny.base / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"]
    layer = loaded.model.model.layers[0].self_attn.q_proj
    assert torch.equal(layer.base_layer.weight, want)
    assert layer.merged is False


def test_every_linear_layer_got_its_lora(loaded):
    names = [name for name, _ in loaded.model.named_parameters() if "lora_" in name]
    assert len(names) == 2 * 2 * 7


@pytest.mark.parametrize("fixture", ["tiny", "tiny_grown"])
def test_the_row_of_a_style_token_is_the_trained_one(fixture, request):
    tiny = request.getfixturevalue(fixture)
    weight = load(tiny.config()).model.get_input_embeddings().weight
    assert torch.equal(weight[list(tiny.token_ids.values())], tiny.rows)


def test_the_rows_of_all_other_tokens_are_the_base_s(tiny, loaded):
    others = [i for i in range(384) if i not in tiny.token_ids.values()]
    want = load_file(tiny.base / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(loaded.model.get_input_embeddings().weight[others], want[others])


def test_rows_are_put_where_the_settings_say_whatever_their_order(own_tiny):
    path = own_tiny.adapter / "adapter_config.json"
    settings = json.loads(path.read_text())
    settings["trainable_token_indices"]["embed_tokens"].reverse()
    path.write_text(json.dumps(settings))
    change_weights(own_tiny, lambda tensors: tensors.update({ROWS: tensors[ROWS].flip(0).clone()}))
    weight = load(own_tiny.config()).model.get_input_embeddings().weight
    assert torch.equal(weight[list(own_tiny.token_ids.values())], own_tiny.rows)


def test_the_model_is_ready_to_generate_only(loaded):
    assert not loaded.model.training
    assert all(not module.training for module in loaded.model.modules())


def test_lora_saved_in_half_precision_is_computed_with_in_that_of_the_model(own_tiny):
    def halve(tensors):
        tensors.update({name: value.bfloat16() for name, value in tensors.items()})

    change_weights(own_tiny, halve)
    model = load(own_tiny.config()).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


# What goes with the model


def test_what_was_loaded_is_described(tiny, loaded):
    assert loaded.manifest.styles == STYLES
    assert loaded.prompt.token_id(STYLES[0].token) == tiny.token_ids["short"]
    assert loaded.eos_ids == (2,)


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
    assert loaded.model.get_input_embeddings().weight.shape[0] == 384
    assert list(tiny_grown.token_ids.values()) == [320, 321]
    assert set(range(320, 384)) <= set(loaded.suppressed_ids)


# Without the adapter


def test_without_the_adapter_the_base_keeps_its_weights(tiny):
    loaded = load(tiny.config(), with_adapter=False)
    want = load_file(tiny.base / "model.safetensors")
    have = loaded.model.state_dict()
    assert have.keys() == want.keys()
    assert all(torch.equal(have[name], want[name]) for name in want)


def test_without_the_adapter_prompts_are_read_with_its_tokenizer(tiny, loaded):
    bare = load(tiny.config(), with_adapter=False)
    assert bare.prompt.token_id(STYLES[1].token) == tiny.token_ids["long"]
    assert bare.suppressed_ids == loaded.suppressed_ids


def test_without_the_adapter_there_is_still_room_for_its_tokens(tiny_grown):
    weight = load(tiny_grown.config(), with_adapter=False).model.get_input_embeddings().weight
    want = load_file(tiny_grown.base / "model.safetensors")["model.embed_tokens.weight"]
    assert weight.shape[0] == 384
    assert torch.equal(weight[:NUM_TOKENS], want)


# Adapters that do not fit, although their checksums do


def test_a_missing_tensor_is_named(own_tiny):
    [problem] = problems_of(own_tiny, lambda tensors: tensors.pop(LORA))
    assert "lacks" in problem
    assert LORA.replace(".weight", "") in problem


def test_a_stray_tensor_is_named(own_tiny):
    stray = "base_model.model.score.lora_A.weight"
    [problem] = problems_of(own_tiny, lambda tensors: tensors.update({stray: torch.ones(4, 64)}))
    assert "stray" in problem
    assert "score" in problem


def test_a_tensor_of_another_shape_is_named(own_tiny):
    [problem] = problems_of(own_tiny, lambda tensors: tensors.update({LORA: torch.ones(5, 64)}))
    assert "layers.0.self_attn.q_proj.lora_A" in problem


def test_missing_token_rows_are_a_problem(own_tiny):
    [problem] = problems_of(own_tiny, lambda tensors: tensors.pop(ROWS))
    assert "token rows of shape (2, 64) expected" in problem


@pytest.mark.parametrize("shape", [(1, 64), (3, 64), (2, 32)])
def test_token_rows_of_another_shape_are_a_problem(own_tiny, shape):
    [problem] = problems_of(own_tiny, lambda tensors: tensors.update({ROWS: torch.ones(shape)}))
    assert f"token rows of shape (2, 64) expected, found [{shape}]" in problem


def test_missing_and_stray_tensors_and_token_rows_are_listed_together(own_tiny):
    def spoil(tensors):
        del tensors[LORA], tensors[OTHER_LORA]
        tensors["base_model.model.score.lora_A.weight"] = torch.ones(4, 64)
        tensors[ROWS] = torch.ones(1, 64)

    problems = "\n".join(problems_of(own_tiny, spoil))
    for part in ("layers.0.self_attn.q_proj", "layers.1.mlp.up_proj", "score", "token rows"):
        assert part in problems


def test_a_tensor_of_another_shape_hides_no_other_problem(own_tiny):
    def spoil(tensors):
        tensors[LORA] = torch.ones(5, 64)
        del tensors[OTHER_LORA]
        tensors["base_model.model.score.lora_A.weight"] = torch.ones(4, 64)

    problems = "\n".join(problems_of(own_tiny, spoil))
    for part in ("layers.0.self_attn.q_proj", "layers.1.mlp.up_proj", "score"):
        assert part in problems


def test_a_damaged_file_is_found_before_any_model_is_loaded(own_tiny):
    path = own_tiny.adapter / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(AdapterMismatchError, match=WEIGHTS_NAME):
        load(own_tiny.config())


# In 4-bit


def test_in_4_bit_the_adapter_and_the_arithmetic_stay_in_full_precision(tiny):
    model = load(tiny.config(quantization="nf4")).model
    layer = model.model.layers[0].self_attn.q_proj
    assert layer.base_layer.weight.dtype == torch.uint8
    assert layer.base_layer.compute_dtype == torch.float32
    loras = {value.dtype for name, value in model.named_parameters() if "lora_" in name}
    assert loras == {torch.float32}
    assert logits_of(model, tiny.token_ids).dtype == torch.float32


def test_in_4_bit_the_logits_are_those_of_peft(tiny):
    reference = PeftModel.from_pretrained(load_base(tiny.base, "cpu", "nf4"), tiny.adapter).eval()
    want = logits_of(reference, tiny.token_ids)
    have = logits_of(load(tiny.config(quantization="nf4")).model, tiny.token_ids)
    torch.testing.assert_close(have, want, atol=1e-5, rtol=1e-5)


def test_in_4_bit_the_token_rows_are_exact(tiny):
    weight = load(tiny.config(quantization="nf4")).model.get_input_embeddings().weight
    assert torch.equal(weight[list(tiny.token_ids.values())], tiny.rows)


def test_in_4_bit_answers_are_generated(tiny):
    loaded = load(tiny.config(quantization="nf4"))
    row = Row([1, 7, 8], SamplingParams(Preset(0.0, 1.0, 0, 5)))
    [output] = generate(loaded.model, [row], eos_ids=loaded.eos_ids)
    assert len(output.ids) == 5
