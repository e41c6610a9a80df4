"""Templates, tokens and conversations that are refused, and what a folder says of them."""

import hashlib
import json

import pytest
from tokenizers import Tokenizer

from adapters.prompts import DEFAULT_CHAT_TEMPLATE, Message, PromptError, PromptFormat
from tests.adapters.conftest import ANSWER, CONVERSATION, LLAMA_2, MISTRAL, QUESTION, ZEPHYR

# What cannot be done


@pytest.mark.parametrize("messages", [[], [Message("system", "Be kind.")], CONVERSATION[:2]])
def test_a_conversation_must_end_with_the_user(prompt_format, messages):
    with pytest.raises(PromptError, match="last message must be the user's"):
        prompt_format.encode_prompt(messages, None)
    with pytest.raises(PromptError, match="last message must be the user's"):
        prompt_format.encode_example(messages, ANSWER, None)


@pytest.mark.parametrize("template", ["{% for %}", "{{ bos_token", "{% generate %}"])
def test_a_broken_template_is_refused_at_once(byte_level_json, template):
    with pytest.raises(PromptError, match="chat template is broken"):
        PromptFormat(byte_level_json, template, bos_token="<s>", eos_token="</s>")


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0]['content']['parts'][0] }}",
        "{{ messages[7].content }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
    ],
)
def test_a_template_that_fails_on_the_messages_is_a_prompt_error(byte_level_json, template):
    prompt = PromptFormat(byte_level_json, template, bos_token="<s>", eos_token="</s>")
    with pytest.raises(PromptError, match="chat template refuses these messages"):
        prompt.encode_prompt(QUESTION, None)


def test_a_template_that_drops_the_user_message_is_refused(byte_level_json):
    template = "{% for message in messages[1:] %}{{ message['content'] }}{% endfor %}"
    prompt = PromptFormat(byte_level_json, template, bos_token="<s>", eos_token="</s>")
    with pytest.raises(PromptError, match="leaves out the last user message"):
        prompt.encode_prompt(QUESTION, None)


@pytest.mark.parametrize(
    "template",
    [
        # Mistral's third version puts the system message into the last turn, whosever it is.
        "{% for message in messages %}{% if loop.last %}Be kind. {% endif %}"
        "{{ message['content'] }}{% endfor %}",
        "{% for message in messages if message['role'] == 'user' %}"
        "{{ message['content'] }}{% endfor %}",
    ],
)
def test_a_template_that_trains_another_prompt_than_it_serves_is_refused(byte_level_json, template):
    prompt = PromptFormat(byte_level_json, template, bos_token="<s>", eos_token="</s>")
    with pytest.raises(PromptError, match="could not see the same prompt"):
        prompt.encode_example(QUESTION, ANSWER, None)


def test_an_unknown_token_is_named(mistral):
    with pytest.raises(PromptError, match="no token '<STYLE_RUDE>'"):
        mistral.token_id("<STYLE_RUDE>")


@pytest.mark.parametrize(
    "names", [{"bos_token": "<no>", "eos_token": "</s>"}, {"bos_token": None, "eos_token": "<no>"}]
)
def test_a_bos_or_eos_outside_the_vocabulary_is_refused(byte_level_json, names):
    with pytest.raises(PromptError, match="no token '<no>'"):
        PromptFormat(byte_level_json, MISTRAL, **names)


# Reading a folder


@pytest.fixture
def folder(tmp_path, byte_level_json):
    (tmp_path / "tokenizer.json").write_text(byte_level_json, encoding="utf-8")
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    return tmp_path


def change_config(folder, **values):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_without_a_template_gets_mistrals(folder):
    assert PromptFormat.from_folder(folder).chat_template == DEFAULT_CHAT_TEMPLATE


def test_a_template_in_the_tokenizer_config_is_used(folder):
    change_config(folder, chat_template=ZEPHYR)
    assert PromptFormat.from_folder(folder).chat_template == ZEPHYR


def test_a_template_file_wins_over_the_tokenizer_config(folder):
    change_config(folder, chat_template=ZEPHYR)
    (folder / "chat_template.jinja").write_text(LLAMA_2)
    assert PromptFormat.from_folder(folder).chat_template == LLAMA_2


def test_control_tokens_written_as_objects_are_understood(folder):
    change_config(folder, bos_token={"content": "<s>"}, eos_token={"content": "<|im_end|>"})
    prompt = PromptFormat.from_folder(folder)
    assert prompt.bos_id == prompt.token_id("<s>")
    assert prompt.eos_token == "<|im_end|>"


@pytest.mark.parametrize("eos_token", [None, 7, {}])
def test_a_tokenizer_without_an_eos_token_is_refused(folder, eos_token):
    change_config(folder, eos_token=eos_token)
    with pytest.raises(PromptError, match="names no eos_token"):
        PromptFormat.from_folder(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_missing_tokenizer_file_is_not_found(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name.replace(".", r"\.")):
        PromptFormat.from_folder(folder)


def test_the_template_is_identified_by_its_sha256(mistral):
    assert mistral.template_sha256 == hashlib.sha256(MISTRAL.encode()).hexdigest()


def test_the_number_of_tokens_includes_the_added_ones(mistral, byte_level_json):
    tokenizer = Tokenizer.from_str(byte_level_json)
    assert mistral.num_tokens == tokenizer.get_vocab_size(with_added_tokens=True)
    assert mistral.num_tokens > max(mistral.control_ids)
