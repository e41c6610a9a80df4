import dataclasses

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Qwen2Config,
    StableLmConfig,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from adapters.prompts import Message, PromptFormat
from adapters.styles import STYLES, VERBOSE
from training.config import TrainConfig
from training.model import load_trainable, lora_config
from training.pocket.tokenizer import save_tokenizer, train_tokenizer
from training.style_tokens import prepare_tokenizer

pytestmark = pytest.mark.slow

TEXTS = ["One sentence that answers the question. A structured explanation, with background."]
VOCABULARY = 320


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A Mistral of a few thousand parameters with random weights."""
    folder = tmp_path_factory.mktemp("base")
    save_tokenizer(train_tokenizer(TEXTS, VOCABULARY), folder)
    torch.manual_seed(0)
    MistralForCausalLM(
        MistralConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=False,
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def config(tmp_path):
    return TrainConfig(
        name="tiny",
        base_model="tiny",
        train_data=str(tmp_path / "rows.jsonl"),
        quantization="none",
        device="cpu",
    )


@pytest.fixture
def token_ids(base_folder, tmp_path):
    return prepare_tokenizer(base_folder, STYLES, tmp_path)


@pytest.fixture
def prompt(token_ids, tmp_path):
    return PromptFormat.from_folder(tmp_path)


@pytest.fixture
def embedding(base_folder):
    """The rows as they were."""
    return MistralForCausalLM.from_pretrained(base_folder).get_input_embeddings().weight.detach()


@pytest.fixture
def model(config, base_folder, prompt, token_ids):
    return load_trainable(config, base_folder, prompt, token_ids)


def rows_of(model):
    """The embedding as the model uses it, trained rows included."""
    with torch.no_grad():
        return model.get_input_embeddings()(torch.arange(model.config.vocab_size))


def description_row(embedding, prompt, style):
    """The mean of the words of a description, stretched to the length of a usual word."""
    words = embedding[prompt.encode_words(f"{style.name} {style.description}")]
    mean = words.mean(dim=0)
    return mean / mean.norm() * words.norm(dim=1).median()


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_a_styles_row_starts_as_what_its_description_says(
    model, embedding, prompt, token_ids, style
):
    row = rows_of(model)[token_ids[style.name]]
    torch.testing.assert_close(row, description_row(embedding, prompt, style))


@pytest.mark.slow
def test_every_other_row_is_left_as_it_was(model, embedding, token_ids):
    others = [row for row in range(VOCABULARY) if row not in token_ids.values()]
    torch.testing.assert_close(rows_of(model)[others], embedding[others], rtol=0, atol=0)


@pytest.mark.slow
def test_reserved_rows_need_no_new_ones(model):
    assert rows_of(model).shape == (VOCABULARY, 64)
    assert model.config.vocab_size == VOCABULARY


@pytest.mark.slow
def test_a_new_id_gets_rows_up_to_a_multiple_of_64(
    config, base_folder, prompt, token_ids, embedding
):
    ids = {**token_ids, "verbose": VOCABULARY}
    model = load_trainable(config, base_folder, prompt, ids)
    assert rows_of(model).shape[0] == 384
    assert model.get_output_embeddings().weight.shape[0] == 384
    row = rows_of(model)[VOCABULARY]
    torch.testing.assert_close(row, description_row(embedding, prompt, VERBOSE))


@pytest.mark.slow
def test_nothing_is_cached_while_training(model):
    assert model.config.use_cache is False


@pytest.mark.slow
def test_lora_pairs_and_style_rows_are_all_that_is_trained(config, model):
    parameters = dict(model.named_parameters())
    trained = {name: part.shape for name, part in parameters.items() if part.requires_grad}
    rows = [name for name in trained if "lora_" not in name]
    assert [tuple(trained[name]) for name in rows] == [(len(STYLES), 64)]
    # a pair for each of seven linear layers in each of two blocks
    assert len(trained) - len(rows) == 2 * 7 * 2
    assert {min(shape) for name, shape in trained.items() if "lora_" in name} == {config.lora_r}


def test_the_adapter_follows_the_configuration(config):
    found = lora_config(config, {"terse": 11, "verbose": 10})
    assert (found.r, found.lora_alpha, found.lora_dropout, found.bias) == (16, 32, 0.05, "none")
    assert found.target_modules == set(config.target_modules)
    assert found.task_type == "CAUSAL_LM"
    assert found.trainable_token_indices == {"embed_tokens": [10, 11]}
    assert not found.modules_to_save


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "part"), [({"dora": True}, "lora_magnitude_vector"), ({"rslora": True}, "lora_A")]
)
def test_variants_of_lora_are_chosen_by_the_configuration(
    config, base_folder, prompt, token_ids, values, part
):
    model = load_trainable(dataclasses.replace(config, **values), base_folder, prompt, token_ids)
    assert any(part in name for name, value in model.named_parameters() if value.requires_grad)
    scaling = model.model.model.layers[0].mlp.up_proj.scaling["default"]
    assert scaling == (32 / 4 if "rslora" in values else 32 / 16)


@pytest.mark.slow
def test_eva_starts_from_what_the_layers_are_given(config, base_folder, prompt, token_ids):
    config = dataclasses.replace(config, lora_init="eva", lora_r=4)
    ids = torch.arange(12).repeat(4, 1) + torch.arange(4)[:, None]
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    model = load_trainable(config, base_folder, prompt, token_ids, [batch] * 4)

    layer = model.model.model.layers[0].mlp.up_proj
    main = layer.lora_A["default"].weight
    torch.testing.assert_close(main @ main.T, torch.eye(4), atol=1e-4, rtol=0)
    assert model.peft_config["default"].init_lora_weights is True
    assert all(part.dtype == torch.float32 for part in model.parameters() if part.requires_grad)


@pytest.mark.slow
def test_an_adapter_to_start_from_is_taken_as_it_is(
    config, base_folder, prompt, token_ids, tmp_path
):
    first = load_trainable(config, base_folder, prompt, token_ids)
    with torch.no_grad():
        for parameter in first.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    first.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)

    config = dataclasses.replace(config, adapter=tmp_path / "adapter")
    second = load_trainable(config, base_folder, prompt, token_ids)

    wanted = {name: part for name, part in first.named_parameters() if part.requires_grad}
    found = {name: part for name, part in second.named_parameters() if part.requires_grad}
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_layers_that_the_base_does_not_have_are_named_with_those_it_has(
    config, base_folder, prompt, token_ids
):
    config = dataclasses.replace(config, target_modules=("q_proj", "fc1", "qkv_proj"))
    with pytest.raises(ValueError, match="no linear layer fc1, qkv_proj; it has down_proj, gate"):
        load_trainable(config, base_folder, prompt, token_ids)


PHI3 = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        (LlamaConfig, None),
        (Qwen2Config, None),
        (Gemma2Config, None),
        (StableLmConfig, None),
        (Phi3Config, PHI3),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_practice_models_can_be_trained(
    config, base_folder, prompt, token_ids, tmp_path, kind, targets, tied
):
    shape = kind(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    folder = tmp_path / "base"
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base_folder).save_pretrained(folder)
    config = dataclasses.replace(config, target_modules=targets or config.target_modules)
    model = load_trainable(config, folder, prompt, token_ids)
    before = {name: part.clone() for name, part in model.named_parameters() if part.requires_grad}
    ids = prompt.encode_example([Message("user", "A question")], "An answer.", VERBOSE.token)

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path),
            max_steps=2,
            learning_rate=1e-2,
            warmup_steps=0,
            report_to="none",
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=2,
            gradient_checkpointing=False,
            max_length=None,
        ),
        train_dataset=Dataset.from_list(
            [{"input_ids": ids.input_ids, "completion_mask": ids.completion_mask}] * 4
        ),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    trainer.train()

    after = {name: part for name, part in model.named_parameters() if part.requires_grad}
    assert all(not torch.equal(after[name], before[name]) for name in before)
