"""The chat templates of exported folders, read by transformers, against the prompts of training."""

import dataclasses
import json
import shutil

import jinja2.meta
import pytest
from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from adapters.base import BaseFacts
from adapters.manifest import AdapterManifest
from adapters.prompts import FORMAT_VERSION, Message, PromptFormat
from adapters.styles import STYLES, TERSE, VERBOSE
from training.compose import POCKET_FOLDER
from training.shipping.styled_template import styled_chat_template, write_styled_tokenizer
from training.style_tokens import prepare_tokenizer

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMING = (
    "{{ bos_token }}{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{{ message['content'] | trim }} <|im_end|>{% endfor %}"
)
TEXTS = ["What is a cache? It keeps things close, as in: def f(x): return x."] * 3
CONVERSATIONS = [
    [Message("user", "What is a cache?")],
    [Message("user", "")],
    [Message("user", "  Spaces and\n\nlines around, 数字 🙂 \n")],
    [Message("user", "Hi"), Message("assistant", " Hello. "), Message("user", "Who?")],
    [
        Message("user", "One"),
        Message("assistant", "1"),
        Message("user", "Two"),
        Message("assistant", "2\n"),
        Message("user", "\nThree"),
    ],
]


def copy_pocket(folder):
    shutil.copytree(POCKET_FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors"))


def make_tokenizer(folder, chat_template, *, kind):
    """A byte-level BPE, or one of SentencePiece's kind as Mistral (first) or Llama 2 has it."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=kind != "bytes", unk_token="<unk>"))
    if kind == "bytes":
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    elif kind == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        alphabet = []
    else:
        prepend = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(prepend)
        alphabet = []
    pieces = [f"<0x{byte:02X}>" for byte in range(256)] if kind != "bytes" else []
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=special,
        initial_alphabet=list(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    data = json.loads(tokenizer.to_str())
    for piece in pieces:
        data["model"]["vocab"][piece] = len(data["model"]["vocab"])
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(data)),
        bos_token="<s>",
        eos_token="</s>",
        chat_template=chat_template,
    ).save_pretrained(folder)


BASES = {
    "pocket": copy_pocket,
    "byte-level ChatML": lambda folder: make_tokenizer(folder, CHATML, kind="bytes"),
    "Mistral": lambda folder: make_tokenizer(folder, None, kind="first"),
    "Llama 2": lambda folder: make_tokenizer(folder, None, kind="prepended"),
    "a template that trims": lambda folder: make_tokenizer(folder, TRIMMING, kind="bytes"),
}


def manifest_of(folder, token_ids):
    return AdapterManifest(
        name="tiny",
        version="1",
        created="2026-01-01T00:00:00+00:00",
        base=BaseFacts("base", "MistralForCausalLM", 1, ""),
        styles=STYLES,
        token_ids=token_ids,
        default_style="terse",
        prompt_format_version=FORMAT_VERSION,
        template_sha256=PromptFormat.from_folder(folder).template_sha256,
    )


class Styled:
    """A folder with a styled template, and what it was made of."""

    def __init__(self, folder, base, *, marked):
        BASES[base](folder / "base")
        self.folder = folder / "model"
        self.folder.mkdir()
        token_ids = prepare_tokenizer(folder / "base", STYLES, self.folder)
        self.manifest = manifest_of(self.folder, token_ids)
        self.prompt = PromptFormat.from_folder(self.folder)
        self.check = write_styled_tokenizer(self.folder, self.manifest, self.prompt, marked=marked)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)

    def ids(self, messages, **settings):
        """What transformers makes of a conversation."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False, **settings
        )


@pytest.fixture(scope="module", params=BASES)
def styled(request, tmp_path_factory):
    return Styled(tmp_path_factory.mktemp("styled"), request.param, marked=True)


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    return Styled(tmp_path_factory.mktemp("pocket"), "pocket", marked=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return Styled(tmp_path_factory.mktemp("plain"), "pocket", marked=False)


def test_every_prompt_has_the_very_ids_of_the_training(styled):
    assert styled.check.unequal == ()
    assert styled.check.num_prompts >= 10
    for messages in CONVERSATIONS:
        for style in STYLES:
            want = styled.prompt.encode_prompt(messages, style.token)
            assert styled.ids(messages, style=style.name) == want


def test_a_system_message_keeps_its_place(tmp_path):
    chatml = Styled(tmp_path, "byte-level ChatML", marked=True)
    messages = [Message("system", "Be kind. "), Message("user", "What is a cache?")]

    assert chatml.check.num_prompts == 12
    assert chatml.ids(messages) == chatml.prompt.encode_prompt(messages, TERSE.token)


@pytest.mark.parametrize("nothing", [{}, {"style": None}, {"style": ""}])
def test_without_a_style_the_default_one_is_taken(pocket, nothing):
    messages = CONVERSATIONS[0]

    assert pocket.ids(messages, **nothing) == pocket.prompt.encode_prompt(messages, TERSE.token)


def test_an_unknown_style_is_refused_with_the_known_ones(pocket):
    with pytest.raises(TemplateError, match="style must be one of terse, verbose, not loud"):
        pocket.ids(CONVERSATIONS[0], style="loud")


def test_vllm_passes_the_style_on(pocket):
    # it drops what a template does not name, or sets by itself
    template = (pocket.folder / "chat_template.jinja").read_text()
    names = jinja2.meta.find_undeclared_variables(ImmutableSandboxedEnvironment().parse(template))

    assert {"style", "messages"} <= names


def test_a_message_that_is_no_text_is_left_to_the_template(pocket):
    template = styled_chat_template("{{ messages }}", pocket.manifest)
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]

    text = pocket.tokenizer.apply_chat_template(parts, chat_template=template, tokenize=False)

    assert text == str(parts)


def test_the_names_of_styles_may_hold_quotes(pocket):
    quoted = dataclasses.replace(VERBOSE, name='it\'s "long"')
    manifest = dataclasses.replace(pocket.manifest, styles=(TERSE, quoted))
    template = styled_chat_template("{{ messages[0]['content'] }}", manifest)

    text = pocket.tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}],
        chat_template=template,
        style=quoted.name,
        tokenize=False,
    )

    assert text == "<STYLE_VERBOSE>\nhi"


def test_a_plain_template_is_text_for_any_tokenizer_and_says_where_it_differs(plain):
    template = (plain.folder / "chat_template.jinja").read_text()
    single = CONVERSATIONS[0]

    assert "\ue002" not in template + (plain.folder / "tokenizer.json").read_text()
    # in earlier turns the space in front of a word is part of the word
    assert len(plain.check.unequal) == 4
    assert plain.check.unequal[0] == "terse, 3 messages: 'Why is it small?'"
    assert plain.ids(single) == plain.prompt.encode_prompt(single, TERSE.token)


def test_older_versions_of_transformers_know_the_tokenizer_class(pocket, plain):
    for each in (pocket, plain):
        config = json.loads((each.folder / "tokenizer_config.json").read_text())
        assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert config["eos_token"] == "</s>"
