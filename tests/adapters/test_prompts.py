import json

import pytest

from adapters.prompts import DEFAULT_CHAT_TEMPLATE, Example, Message, PromptError, PromptFormat
from tests.adapters.conftest import (
    ANSWER,
    CHATML,
    CONVERSATION,
    FORMS_WITH_SYSTEM,
    MISTRAL,
    QUESTION,
    is_inside,
    make_format,
    whole_text,
)

# The form of a prompt


@pytest.mark.parametrize("template", [DEFAULT_CHAT_TEMPLATE, MISTRAL])
def test_the_prompt_has_its_golden_form(byte_level_json, template):
    prompt = PromptFormat(byte_level_json, template, bos_token="<s>", eos_token="</s>")
    ids = prompt.encode_prompt(QUESTION, "<STYLE_TERSE>")
    assert whole_text(byte_level_json, ids) == (
        "<s>[INST] <STYLE_TERSE>\nWhat is rate limiting? [/INST]"
    )


def test_a_tokenizer_that_marks_word_starts_marks_the_first_word_of_the_user(metaspace_json):
    prompt = make_format("mistral", metaspace_json)
    ids = prompt.encode_prompt(QUESTION, "<STYLE_TERSE>")
    assert whole_text(metaspace_json, ids) == (
        "<s>[INST] <STYLE_TERSE>\n What is rate limiting? [/INST]"
    )


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (
            "chatml",
            "<|im_start|>user\n<STYLE_TERSE>\nWhat is rate limiting?<|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
        ("llama_2", "<s>[INST] <STYLE_TERSE>\nWhat is rate limiting? [/INST]"),
        (
            "zephyr",
            "<s><|user|>\n<STYLE_TERSE>\nWhat is rate limiting?</s>\n<|assistant|>\n",
        ),
    ],
)
def test_a_prompt_follows_the_models_own_template(byte_level_json, form, text):
    ids = make_format(form, byte_level_json).encode_prompt(QUESTION, "<STYLE_TERSE>")
    assert whole_text(byte_level_json, ids) == text


def test_the_style_token_and_the_role_markers_are_single_ids(mistral):
    ids = mistral.encode_prompt(QUESTION, "<STYLE_TERSE>")
    controls = [token_id for token_id in ids if token_id in mistral.control_ids]
    names = ("<s>", "[INST]", "<STYLE_TERSE>", "[/INST]")
    assert controls == [mistral.token_id(name) for name in names]


def test_without_a_style_the_prompt_has_no_style_token(mistral, byte_level_json):
    ids = mistral.encode_prompt(QUESTION, None)
    assert whole_text(byte_level_json, ids) == "<s>[INST] What is rate limiting? [/INST]"


@pytest.mark.parametrize("form", ["mistral", "llama_2", "zephyr"])
def test_a_prompt_starts_with_exactly_one_bos(form, tokenizer_json):
    prompt = make_format(form, tokenizer_json)
    ids = prompt.encode_prompt(QUESTION, "<STYLE_TERSE>")
    assert ids[0] == prompt.bos_id
    assert ids.count(prompt.bos_id) == 1


def test_no_bos_is_added_where_the_model_has_none(tokenizer_json):
    prompt = make_format("chatml", tokenizer_json)
    ids = prompt.encode_prompt(QUESTION, "<STYLE_TERSE>")
    assert prompt.bos_id is None
    assert ids[0] == prompt.token_id("<|im_start|>")
    assert prompt.token_id("<s>") not in ids


def test_the_style_stands_in_front_of_the_last_user_message_only(byte_level_json):
    prompt = make_format("mistral", byte_level_json)
    ids = prompt.encode_prompt(CONVERSATION, "<STYLE_TERSE>")
    assert whole_text(byte_level_json, ids) == (
        "<s>[INST] What is TCP? [/INST]A protocol.</s>[INST] <STYLE_TERSE>\nAnd UDP? [/INST]"
    )


def test_every_template_sets_the_style_once_in_a_conversation(prompt_format):
    ids = prompt_format.encode_prompt(CONVERSATION, "<STYLE_TERSE>")
    style_id = prompt_format.token_id("<STYLE_TERSE>")
    first = prompt_format.encode_words("What is TCP?")
    last = prompt_format.encode_words("And UDP?")
    assert ids.count(style_id) == 1
    assert is_inside(first, ids[: ids.index(style_id)])
    assert is_inside(last, ids[ids.index(style_id) :])


def test_every_message_of_a_conversation_is_in_the_prompt(prompt_format):
    ids = prompt_format.encode_prompt(CONVERSATION, "<STYLE_TERSE>")
    for message in CONVERSATION:
        assert is_inside(prompt_format.encode_words(message.content), ids)


# System messages


def test_a_system_message_is_refused_by_name_where_the_template_knows_none(mistral):
    with pytest.raises(PromptError, match="chat template refuses these messages: Conversation ro"):
        mistral.encode_prompt([Message("system", "Be kind."), *QUESTION], None)


def test_the_default_template_says_which_roles_it_knows(byte_level_json):
    prompt = PromptFormat(byte_level_json, DEFAULT_CHAT_TEMPLATE, bos_token="<s>", eos_token="</s>")
    with pytest.raises(PromptError, match="knows user and assistant only"):
        prompt.encode_prompt([Message("system", "Be kind."), *QUESTION], None)


@pytest.mark.parametrize("form", FORMS_WITH_SYSTEM)
def test_a_system_message_is_accepted_where_the_template_has_one(form, tokenizer_json):
    prompt = make_format(form, tokenizer_json)
    ids = prompt.encode_prompt([Message("system", "Be kind."), *QUESTION], "<STYLE_TERSE>")
    system = prompt.encode_words("Be kind.")
    assert is_inside(system, ids[: ids.index(prompt.token_id("<STYLE_TERSE>"))])


def test_a_system_message_stands_where_llama_2_wants_it(byte_level_json):
    prompt = make_format("llama_2", byte_level_json)
    ids = prompt.encode_prompt([Message("system", "Be kind."), *QUESTION], "<STYLE_TERSE>")
    assert whole_text(byte_level_json, ids) == (
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n<STYLE_TERSE>\nWhat is rate limiting? [/INST]"
    )


# Training examples


@pytest.mark.parametrize("style_token", ["<STYLE_TERSE>", None])
def test_the_serving_prompt_is_a_prefix_of_the_training_example(prompt_format, style_token):
    prompt = prompt_format.encode_prompt(QUESTION, style_token)
    example = prompt_format.encode_example(QUESTION, ANSWER, style_token)
    assert example.input_ids[: example.prompt_length] == prompt
    assert len(example.input_ids) > len(prompt)


def test_a_conversation_is_trained_on_as_it_is_served(prompt_format):
    prompt = prompt_format.encode_prompt(CONVERSATION, "<STYLE_TERSE>")
    example = prompt_format.encode_example(CONVERSATION, ANSWER, "<STYLE_TERSE>")
    assert example.input_ids[: example.prompt_length] == prompt


@pytest.mark.parametrize("form", FORMS_WITH_SYSTEM)
def test_a_system_message_is_trained_on_as_it_is_served(form, tokenizer_json):
    messages = [Message("system", "Be kind."), *QUESTION]
    prompt_format = make_format(form, tokenizer_json)
    prompt = prompt_format.encode_prompt(messages, "<STYLE_TERSE>")
    example = prompt_format.encode_example(messages, ANSWER, "<STYLE_TERSE>")
    assert example.input_ids[: example.prompt_length] == prompt


def test_the_golden_example_ends_with_the_answer_and_eos(mistral, byte_level_json):
    example = mistral.encode_example(QUESTION, ANSWER, "<STYLE_TERSE>")
    assert whole_text(byte_level_json, example.input_ids) == (
        f"<s>[INST] <STYLE_TERSE>\nWhat is rate limiting? [/INST]{ANSWER}</s>"
    )


def test_the_last_id_to_learn_is_the_one_eos_of_the_answer(prompt_format):
    example = prompt_format.encode_example(QUESTION, ANSWER, "<STYLE_TERSE>")
    learned = example.input_ids[example.prompt_length :]
    assert learned[-1] == prompt_format.eos_id
    assert learned.count(prompt_format.eos_id) == 1


@pytest.mark.parametrize("form", ["mistral", "llama_2", "zephyr"])
def test_an_example_has_exactly_one_bos(form, tokenizer_json):
    prompt = make_format(form, tokenizer_json)
    example = prompt.encode_example(QUESTION, ANSWER, "<STYLE_TERSE>")
    assert example.input_ids[0] == prompt.bos_id
    assert example.input_ids.count(prompt.bos_id) == 1


def test_the_mask_covers_the_answer_and_nothing_else(prompt_format):
    example = prompt_format.encode_example(QUESTION, ANSWER, "<STYLE_TERSE>")
    pairs = list(zip(example.input_ids, example.completion_mask, strict=True))
    learned = [token_id for token_id, is_learned in pairs if is_learned]
    assert prompt_format.decode(learned).strip() == ANSWER
    assert example.completion_mask == sorted(example.completion_mask)


def test_the_mask_is_zero_for_the_prompt_and_one_for_the_rest():
    assert Example([5, 6, 7, 8, 9], prompt_length=3).completion_mask == [0, 0, 0, 1, 1]


def test_an_empty_answer_is_an_eos_alone(mistral):
    example = mistral.encode_example(QUESTION, "", "<STYLE_TERSE>")
    assert example.input_ids[example.prompt_length :] == [mistral.eos_id]


def test_an_answer_ends_with_eos_even_where_the_template_writes_none(byte_level_json):
    template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    prompt = PromptFormat(byte_level_json, template, bos_token="<s>", eos_token="</s>")
    example = prompt.encode_example(QUESTION, ANSWER, None)
    assert example.input_ids[example.prompt_length :] == [
        *prompt.encode_words(ANSWER),
        prompt.eos_id,
    ]


def test_nothing_is_learned_after_the_eos(byte_level_json):
    prompt = make_format("chatml", byte_level_json)
    example = prompt.encode_example(QUESTION, ANSWER, None)
    # ChatML writes a line break after its end-of-turn token.
    assert whole_text(byte_level_json, example.input_ids).endswith(f"{ANSWER}<|im_end|>")


@pytest.mark.parametrize("tokenizer_name", ["metaspace_json", "prepend_json"])
def test_the_space_before_an_answer_is_not_doubled(request, tokenizer_name):
    # Llama-2's template writes a space there, and the tokenizer marks the first word's start.
    prompt = make_format("llama_2", request.getfixturevalue(tokenizer_name))
    example = prompt.encode_example(QUESTION, ANSWER, None)
    words = prompt.encode_words(ANSWER)
    start = example.prompt_length
    assert example.input_ids[start : start + len(words)] == words


def test_the_space_before_an_answer_is_kept_where_the_tokenizer_adds_none(byte_level_json):
    prompt = make_format("llama_2", byte_level_json)
    example = prompt.encode_example(QUESTION, ANSWER, None)
    text = whole_text(byte_level_json, example.input_ids)
    assert text == f"<s>[INST] What is rate limiting? [/INST] {ANSWER} </s>"


def test_a_bos_token_that_also_opens_every_turn_can_be_trained_on(byte_level_json):
    # SmolLM2 names <|im_start|> as its bos_token.
    prompt = PromptFormat(byte_level_json, CHATML, bos_token="<|im_start|>", eos_token="<|im_end|>")
    example = prompt.encode_example(QUESTION, ANSWER, None)
    assert example.input_ids[: example.prompt_length] == prompt.encode_prompt(QUESTION, None)


def test_a_bos_token_that_the_model_never_writes_is_not_needed(byte_level_json):
    # Phi-3 names a bos_token, but neither its template nor its tokenizer writes it.
    data = {**json.loads(byte_level_json), "post_processor": None}
    prompt = PromptFormat(json.dumps(data), CHATML, bos_token="<s>", eos_token="<|im_end|>")
    example = prompt.encode_example(QUESTION, ANSWER, None)
    assert prompt.bos_id not in example.input_ids
