import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from adapters.prompts import DEFAULT_CHAT_TEMPLATE, Message, PromptFormat
from adapters.styles import STYLES, TERSE, VERBOSE, Preset, Style
from training.compose import POCKET_FOLDER
from training.pocket.tokenizer import save_tokenizer, train_tokenizer
from training.style_tokens import prepare_tokenizer

TEXTS = ["What is rate limiting? It caps how many requests a client may send in a minute."]
TEMPLATE = "{% for message in messages %}<s>{{ message['content'] }}{% endfor %}"
PIRATE = Style("pirate", "<STYLE_PIRATE>", "Arr.", Preset(0.0, 1.0, 0, 9))


@pytest.fixture
def base(tmp_path):
    """A base with Mistral's reserved rows."""
    folder = tmp_path / "base"
    folder.mkdir()
    save_tokenizer(train_tokenizer(TEXTS, 320), folder)
    return folder


@pytest.fixture
def adapter(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    return folder


def make_base(tmp_path, *tokens, model=None, chat_template=None, **settings):
    """A base that has these tokens after its words, besides BOS and EOS."""
    if model is None:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        model = models.BPE({letter: number for number, letter in enumerate(alphabet)}, [])
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in tokens])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    folder = tmp_path / "base"
    folder.mkdir()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        chat_template=chat_template,
        **settings,
    ).save_pretrained(folder)
    return folder


def token_id(folder, token):
    return Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id(token)


def size(folder):
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# A base with reserved rows


def test_style_tokens_take_the_first_reserved_rows(base, adapter):
    reserved = [token_id(base, "[control_8]"), token_id(base, "[control_9]")]
    assert list(prepare_tokenizer(base, STYLES, adapter).items()) == [
        ("terse", reserved[0]),
        ("verbose", reserved[1]),
    ]


def test_a_reserved_row_is_renamed_and_no_id_is_added(base, adapter):
    ids = prepare_tokenizer(base, STYLES, adapter)
    assert size(adapter) == size(base)
    assert token_id(adapter, TERSE.token) == ids["terse"]
    assert token_id(adapter, VERBOSE.token) == ids["verbose"]
    assert token_id(adapter, "[control_8]") is None
    assert token_id(adapter, "[control_9]") is None


def test_every_other_token_keeps_its_id(base, adapter):
    prepare_tokenizer(base, STYLES, adapter)
    before, after = (
        Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
        for folder in (base, adapter)
    )
    changed = set(before.items()) ^ set(after.items())
    assert {name for name, _ in changed} == {
        "[control_8]",
        "[control_9]",
        TERSE.token,
        VERBOSE.token,
    }


def test_the_bundled_base_has_room_for_the_styles(adapter):
    ids = prepare_tokenizer(POCKET_FOLDER, STYLES, adapter)
    vocabulary = json.loads((POCKET_FOLDER / "config.json").read_text())["vocab_size"]
    assert len(set(ids.values())) == 2
    assert max(ids.values()) < size(POCKET_FOLDER) == size(adapter) == vocabulary


@pytest.mark.parametrize(
    "names",
    [
        ["[control_8]", "[control_9]"],
        ["<|reserved_special_token_0|>", "<|reserved_special_token_1|>"],
        ["<unused0>", "<unused1>"],
    ],
    ids=["Mistral", "Llama 3", "Gemma"],
)
def test_each_familys_reserved_rows_are_known(tmp_path, adapter, names):
    base = make_base(tmp_path, *names)
    ids = prepare_tokenizer(base, STYLES, adapter)
    assert list(ids.values()) == [token_id(base, name) for name in names]
    assert size(adapter) == size(base)


@pytest.mark.parametrize("name", ["[control_x]", "my[control_8]", "<unused>", "[INST]"])
def test_a_token_that_only_looks_reserved_is_left_alone(tmp_path, adapter, name):
    base = make_base(tmp_path, name)
    ids = prepare_tokenizer(base, [TERSE], adapter)
    assert ids["terse"] == size(base)
    assert token_id(adapter, name) == token_id(base, name)


def test_a_reserved_row_becomes_a_control_token_even_if_it_was_none(tmp_path, adapter):
    base = make_base(tmp_path, "[control_8]")
    prepare_tokenizer(base, [TERSE], adapter)
    data = json.loads((adapter / "tokenizer.json").read_text())
    [entry] = [entry for entry in data["added_tokens"] if entry["content"] == TERSE.token]
    assert entry["special"] is True
    assert entry["normalized"] is False


# A base without


def test_without_reserved_rows_new_ids_follow_the_last_one(tmp_path, adapter):
    base = make_base(tmp_path)
    ids = prepare_tokenizer(base, STYLES, adapter)
    assert list(ids.values()) == [size(base), size(base) + 1]
    assert size(adapter) == size(base) + 2
    assert token_id(adapter, TERSE.token) == ids["terse"]
    assert token_id(adapter, VERBOSE.token) == ids["verbose"]


def test_when_reserved_rows_run_out_the_next_style_gets_a_new_id(tmp_path, adapter):
    base = make_base(tmp_path, "[control_8]", "[TOOL]")
    ids = prepare_tokenizer(base, STYLES, adapter)
    assert list(ids.values()) == [token_id(base, "[control_8]"), size(base)]


def test_a_unigram_vocabulary_is_understood(tmp_path, adapter):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [("<unk>", 0.0), ("[control_8]", 0.0), *((letter, -1.0) for letter in letters)]
    base = make_base(tmp_path, "[control_8]", model=models.Unigram(pieces, unk_id=0))
    ids = prepare_tokenizer(base, STYLES, adapter)
    assert list(ids.values()) == [1, size(base)]
    assert token_id(adapter, TERSE.token) == 1
    assert token_id(adapter, "[control_8]") is None


# Both


@pytest.fixture(params=["reserved", "new", "mixed"])
def any_base(request, tmp_path):
    tokens = {"reserved": ["[control_8]", "[control_9]", "[control_10]"], "mixed": ["[control_8]"]}
    return make_base(tmp_path, *tokens.get(request.param, []))


def test_the_same_base_gives_the_same_ids_again(any_base, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    once, twice = (prepare_tokenizer(any_base, STYLES, folder) for folder in folders)
    assert once == twice
    assert contents(folders[0]) == contents(folders[1])


def test_a_base_that_has_the_style_tokens_keeps_their_ids(any_base, adapter, tmp_path):
    ids = prepare_tokenizer(any_base, STYLES, adapter)
    again = tmp_path / "again"
    assert prepare_tokenizer(adapter, STYLES, again) == ids
    assert size(again) == size(adapter)
    more = prepare_tokenizer(adapter, [*STYLES, PIRATE], tmp_path / "more")
    assert {name: more[name] for name in ids} == ids
    assert more["pirate"] not in ids.values()


def test_a_token_the_base_has_wins_over_a_reserved_row_before_it(tmp_path, adapter):
    base = make_base(tmp_path, "[control_8]", TERSE.token)
    assert prepare_tokenizer(base, [TERSE], adapter) == {"terse": token_id(base, TERSE.token)}
    assert token_id(adapter, "[control_8]") == token_id(base, "[control_8]")


def test_the_base_is_left_as_it_was(any_base, adapter):
    before = contents(any_base)
    prepare_tokenizer(any_base, STYLES, adapter)
    assert contents(any_base) == before


def test_transformers_reads_the_style_tokens_as_control_tokens(any_base, adapter):
    ids = prepare_tokenizer(any_base, STYLES, adapter)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    for style in STYLES:
        assert tokenizer(style.token, add_special_tokens=False).input_ids == [ids[style.name]]
        assert tokenizer.decode([ids[style.name]], skip_special_tokens=True) == ""
        assert tokenizer.convert_ids_to_tokens(ids[style.name]) == style.token
    assert len(tokenizer) == size(adapter)
    assert "[control_8]" not in json.dumps(tokenizer.get_vocab())


def test_the_tokenizer_settings_name_no_renamed_row(tmp_path, adapter):
    base = make_base(tmp_path, additional_special_tokens=["[control_8]", "[TOOL]"])
    prepare_tokenizer(base, [TERSE], adapter)
    text = (adapter / "tokenizer_config.json").read_text()
    assert "[control_8]" not in text
    assert TERSE.token in text
    assert "[TOOL]" in text


def test_older_tokenizer_settings_are_renamed_too(base, adapter):
    path = base / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    entries = json.loads((base / "tokenizer.json").read_text())["added_tokens"]
    settings["added_tokens_decoder"] = {
        str(entry["id"]): {key: value for key, value in entry.items() if key != "id"}
        for entry in entries
    }
    path.write_text(json.dumps(settings))
    ids = prepare_tokenizer(base, STYLES, adapter)
    assert "[control_8]" not in (adapter / "tokenizer_config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    assert tokenizer.convert_tokens_to_ids(TERSE.token) == ids["terse"]


def test_the_prompt_format_puts_the_style_token_in_front_of_the_words(any_base, adapter):
    ids = prepare_tokenizer(any_base, STYLES, adapter)
    prompt = PromptFormat.from_folder(adapter)
    for style in STYLES:
        found = prompt.encode_prompt([Message("user", "What is TCP?")], style.token)
        assert found.count(ids[style.name]) == 1
        behind = found[found.index(ids[style.name]) + 1 :]
        assert prompt.decode(behind) == "\nWhat is TCP? [/INST]"


@pytest.mark.parametrize("typed", [TERSE.token, "[control_8]"])
def test_a_typed_style_token_stays_plain_text(any_base, adapter, typed):
    ids = prepare_tokenizer(any_base, STYLES, adapter)
    prompt = PromptFormat.from_folder(adapter)
    words = prompt.encode_words(typed)
    assert set(ids.values()).isdisjoint(words)
    assert prompt.decode(words) == typed


def test_a_base_without_a_chat_template_gets_mistrals(tmp_path, adapter):
    prepare_tokenizer(make_base(tmp_path), STYLES, adapter)
    assert PromptFormat.from_folder(adapter).chat_template == DEFAULT_CHAT_TEMPLATE


def test_a_bases_own_chat_template_is_kept(tmp_path, adapter):
    prepare_tokenizer(make_base(tmp_path, chat_template=TEMPLATE), STYLES, adapter)
    assert PromptFormat.from_folder(adapter).chat_template == TEMPLATE
