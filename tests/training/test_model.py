import pytest
import torch
from peft import get_peft_model
from transformers import MistralConfig, MistralForCausalLM

from adapters.prompts import PromptFormat
from adapters.styles import STYLES, VERBOSE
from training.config import TrainConfig
from training.model import load_trainable_base, lora_config
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
        train_data=tmp_path / "rows.jsonl",
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
    return load_trainable_base(config, base_folder, prompt, token_ids)


def rows_of(model):
    return model.get_input_embeddings().weight.detach()


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
    model = load_trainable_base(config, base_folder, prompt, ids)
    assert rows_of(model).shape[0] == 384
    assert model.get_output_embeddings().weight.shape[0] == 384
    row = rows_of(model)[VOCABULARY]
    torch.testing.assert_close(row, description_row(embedding, prompt, VERBOSE))


@pytest.mark.slow
def test_nothing_is_cached_while_training(model):
    assert model.config.use_cache is False


@pytest.mark.slow
# PEFT 0.21 asks transformers 5.23 by the older name.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_lora_pairs_and_style_rows_are_all_that_is_trained(config, model, token_ids):
    trained = {
        name: parameter.shape
        for name, parameter in get_peft_model(
            model, lora_config(config, token_ids)
        ).named_parameters()
        if parameter.requires_grad
    }
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
