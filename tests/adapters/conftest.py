"""Tokenizers trained on a few sentences, and prompts and a small adapter folder made with them."""

import json

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from adapters.base import BaseFacts
from adapters.manifest import AdapterManifest, AdapterMismatchError, check_adapter
from adapters.prompts import Message, PromptFormat
from adapters.styles import STYLES

TEXTS = [
    "What is rate limiting? It caps how many requests a client may send in a minute.",
    "Please answer briefly, or be detailed: [brackets], <angles>, {braces} and |bars| are fine.",
    "user system assistant INST SYS STYLE TERSE VERBOSE im_start im_end",
]
CONTROL_TOKENS = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<|im_start|>",
    "<|im_end|>",
    "<STYLE_TERSE>",
    "<STYLE_VERBOSE>",
]
# Some models add their control tokens with special=False.
TOOL_TOKEN = "<|tool_call|>"

# Chat templates as the models' authors publish them.
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
    "'Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}"
    "{% endif %}{% endfor %}"
)
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception("
    "'Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\n'"
    " + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)
FORMS = {
    "mistral": (MISTRAL, "<s>", "</s>"),
    "chatml": (CHATML, None, "<|im_end|>"),
    "llama_2": (LLAMA_2, "<s>", "</s>"),
    "zephyr": (ZEPHYR, "<s>", "</s>"),
}
FORMS_WITH_SYSTEM = ("chatml", "llama_2", "zephyr")

QUESTION = [Message("user", "What is rate limiting?")]
ANSWER = "It caps how many requests a client may send."
CONVERSATION = [
    Message("user", "What is TCP?"),
    Message("assistant", "A protocol."),
    Message("user", "And UDP?"),
]

# What `adapter_folder` holds besides its manifest.
FILES = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture(scope="session")
def byte_level_json() -> str:
    """A byte-level BPE as Mistral's newer models, GPT-2 and Qwen have it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=CONTROL_TOKENS,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return _finished(tokenizer)


@pytest.fixture(scope="session")
def metaspace_json() -> str:
    """A BPE with '▁' for spaces and byte fallback, as SentencePiece models have it today."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=CONTROL_TOKENS, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    data = json.loads(tokenizer.to_str())
    # The trainer would make these control tokens, which byte tokens are not.
    for byte in range(256):
        data["model"]["vocab"][f"<0x{byte:02X}>"] = len(data["model"]["vocab"])
    data["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return _finished(tokenizer)


@pytest.fixture(scope="session")
def prepend_json(metaspace_json) -> str:
    """The same as Llama-2 and the first Mistral have it: a '▁' is put in front of any text."""
    tokenizer = Tokenizer.from_str(metaspace_json)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return json.dumps({**json.loads(tokenizer.to_str()), "pre_tokenizer": None})


def _finished(tokenizer: Tokenizer) -> str:
    tokenizer.add_tokens([AddedToken(TOOL_TOKEN, special=False, normalized=False)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer.to_str()


@pytest.fixture(params=["byte_level_json", "metaspace_json", "prepend_json"])
def tokenizer_json(request) -> str:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


@pytest.fixture
def prompt_format(form, tokenizer_json):
    """Every template with every tokenizer."""
    return make_format(form, tokenizer_json)


@pytest.fixture
def mistral(byte_level_json):
    return make_format("mistral", byte_level_json)


def make_format(name, tokenizer_json):
    template, bos_token, eos_token = FORMS[name]
    return PromptFormat(tokenizer_json, template, bos_token=bos_token, eos_token=eos_token)


def whole_text(tokenizer_json, ids):
    """The text of ids with every control token in it."""
    return Tokenizer.from_str(tokenizer_json).decode(ids, skip_special_tokens=False)


def is_inside(ids, whole):
    return any(whole[start : start + len(ids)] == ids for start in range(len(whole)))


@pytest.fixture
def base() -> BaseFacts:
    return BaseFacts(
        name="models/tiny", architecture="TinyForCausalLM", vocab_size=400, fingerprint="f" * 64
    )


@pytest.fixture
def adapter_folder(tmp_path, byte_level_json):
    """What a trainer leaves behind before it writes the manifest."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 64)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 16}')
    (folder / "tokenizer.json").write_text(byte_level_json, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    )
    return folder


@pytest.fixture
def manifest(adapter_folder, base) -> AdapterManifest:
    """The manifest of `adapter_folder`, saved in it."""
    prompt = PromptFormat.from_folder(adapter_folder)
    return AdapterManifest(
        name="tiny",
        version="1",
        created="2026-01-02T03:04:05+00:00",
        base=base,
        styles=STYLES,
        token_ids={style.name: prompt.token_id(style.token) for style in STYLES},
        default_style="terse",
        prompt_format_version=1,
        template_sha256=prompt.template_sha256,
        training={"config": {"learning_rate": 0.0002, "name": "größer"}, "seed": 0},
        scores={"perplexity": {"before": 12.5, "after": 3.25}},
    ).save(adapter_folder)


def problems_of(folder, base=None):
    """What `check_adapter` finds wrong; every problem must be in the message too."""
    with pytest.raises(AdapterMismatchError) as caught:
        check_adapter(folder, base)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    assert str(folder) in str(caught.value)
    return caught.value.problems
