import json
import random

import pytest
from transformers import AutoTokenizer

from adapters.prompts import DEFAULT_CHAT_TEMPLATE, PromptFormat
from training.compose import POCKET_FOLDER
from training.pocket.tokenizer import CONTROL_TOKENS, save_tokenizer, train_tokenizer

TEXTS = ["What is rate limiting? It caps how many requests a client may send in a minute."] * 9
# Mistral-7B-Instruct-v0.3, tokenizer.json
MISTRAL_IDS = {"<unk>": 0, "<s>": 1, "</s>": 2, "[INST]": 3, "[/INST]": 4, "[control_8]": 10}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 320)


@pytest.fixture
def folder(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path)
    return tmp_path


@pytest.mark.parametrize(("token", "token_id"), MISTRAL_IDS.items())
def test_control_tokens_have_mistrals_ids(tokenizer, token, token_id):
    assert tokenizer.token_to_id(token) == token_id


def test_the_vocabulary_has_the_wanted_size(tokenizer):
    assert tokenizer.get_vocab_size() == 320


def test_every_control_token_is_a_special_one(tokenizer):
    decoder = tokenizer.get_added_tokens_decoder()
    assert [entry.content for entry in decoder.values() if entry.special] == list(CONTROL_TOKENS)


def test_the_same_texts_give_the_same_tokenizer(tokenizer):
    assert train_tokenizer(TEXTS, 320).to_str() == tokenizer.to_str()


def test_frequent_words_become_one_token():
    tokenizer = train_tokenizer(["requests in requests"] * 9, 320)
    assert tokenizer.encode(" requests", add_special_tokens=False).tokens == ["Ġrequests"]


def test_a_text_is_encoded_behind_one_bos(tokenizer):
    ids = tokenizer.encode("What is it?").ids
    assert ids[0] == 1
    assert ids.count(1) == 1


def test_any_text_comes_back_as_it_was(folder):
    prompt = PromptFormat.from_folder(folder)
    chance = random.Random(0)
    pieces = ["What", " is", "\n", "  ", "é", "😀", "\x00", "[INST]", "</s>", "中", "ß", "'"]
    for _ in range(300):
        text = "".join(chance.choices(pieces, k=8))
        assert prompt.decode(prompt.encode_words(text)) == text


def test_a_saved_tokenizer_is_read_by_transformers_with_the_same_ids(folder, tokenizer):
    read = AutoTokenizer.from_pretrained(folder)
    text = "What is TCP? Größe 😀"
    assert read(text).input_ids == tokenizer.encode(text).ids
    assert (read.bos_token_id, read.eos_token_id, read.unk_token_id) == (1, 2, 0)
    assert read.decode(read(text).input_ids, skip_special_tokens=True) == text
    assert read.model_max_length == 2048


def test_a_saved_tokenizer_has_mistrals_chat_template(folder):
    prompt = PromptFormat.from_folder(folder)
    assert prompt.chat_template == DEFAULT_CHAT_TEMPLATE
    assert (prompt.bos_id, prompt.eos_id) == (1, 2)


def test_the_bundled_tokenizer_has_mistrals_ids_and_fits_the_bundled_model(pocket_prompt):
    for token, token_id in MISTRAL_IDS.items():
        assert pocket_prompt.token_id(token) == token_id
    config = json.loads((POCKET_FOLDER / "config.json").read_text())
    assert pocket_prompt.num_tokens == config["vocab_size"]
    assert (pocket_prompt.bos_id, pocket_prompt.eos_id) == (
        config["bos_token_id"],
        config["eos_token_id"],
    )
