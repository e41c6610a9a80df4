"""A manifest that does not fit its tokenizer, its template or the base model is refused."""

import dataclasses
import json

import pytest

from adapters.manifest import check_adapter
from adapters.styles import TERSE, VERBOSE
from tests.adapters.conftest import FILES, problems_of


def rewrite(folder, **values):
    """Replace top-level values of the manifest's JSON, leaving everything else as it is."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}, indent=2) + "\n")


# What the manifest says


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_refused(adapter_folder, manifest, schema):
    rewrite(adapter_folder, schema=schema)
    assert problems_of(adapter_folder) == [
        f"manifest.json: schema {schema!r} is not 1, the one known here"
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"name": "other"},
        {"scores": {}},
        {"files": {}},
        {"digest": "0" * 64},
        {"unknown": 1},
        {"styles": {}},
        {"styles": None},
        {"base": {}},
        {"files": {"tokenizer.json": 1}},
        {"prompt": []},
    ],
)
def test_a_manifest_edited_by_hand_is_refused(adapter_folder, manifest, values):
    rewrite(adapter_folder, **values)
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("manifest.json: ")


@pytest.mark.parametrize("text", ["", "{}", "[]", "1", "null", '{"schema": 1}', "{"])
def test_a_manifest_of_another_shape_is_refused(adapter_folder, manifest, text):
    (adapter_folder / "manifest.json").write_text(text)
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("manifest.json: malformed")


def test_a_manifest_that_is_no_text_is_refused(adapter_folder, manifest):
    (adapter_folder / "manifest.json").write_bytes(b"\xff\xfe\x00")
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("manifest.json: ")


def test_a_token_id_that_is_not_the_tokenizers_is_refused(adapter_folder, manifest):
    right = manifest.token_ids["terse"]
    wrong = dataclasses.replace(manifest, token_ids={**manifest.token_ids, "terse": 99})
    wrong.save(adapter_folder)
    assert problems_of(adapter_folder) == [
        f"token <STYLE_TERSE> has id {right} in tokenizer.json, 99 in the manifest"
    ]


def test_two_styles_with_one_token_id_are_refused(adapter_folder, manifest):
    same = manifest.token_ids["terse"]
    wrong = dataclasses.replace(manifest, token_ids={"terse": same, "verbose": same})
    wrong.save(adapter_folder)
    assert problems_of(adapter_folder) == ["two styles share one token id"]


def test_a_style_token_the_tokenizer_does_not_have_is_refused(adapter_folder, manifest):
    styles = (dataclasses.replace(TERSE, token="<STYLE_RUDE>"), VERBOSE)
    dataclasses.replace(manifest, styles=styles).save(adapter_folder)
    assert problems_of(adapter_folder) == ["tokenizer: the tokenizer has no token '<STYLE_RUDE>'"]


def test_a_style_token_that_anyone_could_type_is_refused(adapter_folder, manifest):
    tokenizer = json.loads((adapter_folder / "tokenizer.json").read_text(encoding="utf-8"))
    word_id = tokenizer["model"]["vocab"]["A"]
    styles = (dataclasses.replace(TERSE, token="A"), VERBOSE)
    token_ids = {**manifest.token_ids, "terse": word_id}
    dataclasses.replace(manifest, styles=styles, token_ids=token_ids).save(adapter_folder)
    assert problems_of(adapter_folder) == ["token A is no control token in tokenizer.json"]


def test_an_unknown_default_style_is_refused(adapter_folder, manifest):
    dataclasses.replace(manifest, default_style="rude").save(adapter_folder)
    assert problems_of(adapter_folder) == ["default style 'rude' is none of terse, verbose"]


def test_another_prompt_format_is_refused(adapter_folder, manifest):
    dataclasses.replace(manifest, prompt_format_version=2).save(adapter_folder)
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("prompt format 2 is not 1")


def test_another_chat_template_is_refused(adapter_folder, manifest):
    (adapter_folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    manifest.save(adapter_folder)
    assert problems_of(adapter_folder) == [
        "the chat template is not the one the adapter was trained with"
    ]


def test_a_broken_chat_template_is_refused(adapter_folder, manifest):
    (adapter_folder / "chat_template.jinja").write_text("{% for %}")
    manifest.save(adapter_folder)
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("tokenizer: the chat template is broken")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": 1}'])
def test_a_malformed_tokenizer_is_refused(adapter_folder, manifest, name, text):
    (adapter_folder / name).write_text(text)
    manifest.save(adapter_folder)
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("tokenizer: ")


# The base model


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"architecture": "OtherForCausalLM"},
            "trained on a TinyForCausalLM, but the base model is a OtherForCausalLM",
        ),
        ({"vocab_size": 401}, "trained on 400 tokens, but the base model has 401"),
        (
            {"fingerprint": "0" * 64, "name": "models/other"},
            "trained on 'models/tiny', but 'models/other' is another model "
            "(fingerprint ffffffffffff and 000000000000)",
        ),
    ],
)
def test_another_base_is_refused(adapter_folder, manifest, base, values, words):
    assert problems_of(adapter_folder, dataclasses.replace(base, **values)) == [words]


def test_the_same_base_under_another_name_fits(adapter_folder, manifest, base):
    elsewhere = dataclasses.replace(base, name="/mnt/models/tiny")
    assert check_adapter(adapter_folder, elsewhere) == manifest


# Everything at once


def test_all_problems_are_listed_in_one_error(adapter_folder, manifest, base):
    same = manifest.token_ids["terse"]
    dataclasses.replace(
        manifest, default_style="rude", token_ids={"terse": same, "verbose": same}
    ).save(adapter_folder)
    (adapter_folder / "adapter_config.json").write_text("{}")
    (adapter_folder / "tokenizer.json").unlink()
    (adapter_folder / "notes.txt").write_text("")
    other = dataclasses.replace(
        base, architecture="OtherForCausalLM", vocab_size=401, fingerprint="0" * 64
    )
    problems = problems_of(adapter_folder, other)
    starts = [
        "tokenizer.json is missing",
        "notes.txt is not in the manifest",
        "adapter_config.json has 2 bytes",
        "default style 'rude'",
        "two styles share one token id",
        "trained on a TinyForCausalLM",
        "trained on 400 tokens",
        "trained on 'models/tiny'",
    ]
    assert [text for text in starts if any(p.startswith(text) for p in problems)] == starts
    assert len(problems) == len(starts)


def test_all_wrong_files_are_listed_in_one_error(adapter_folder, manifest):
    for name in FILES:
        (adapter_folder / name).write_text("other")
    assert [problem.split()[0] for problem in problems_of(adapter_folder)] == FILES


def test_all_unsafe_entries_are_listed_in_one_error(adapter_folder, manifest):
    (adapter_folder / "manifest.json").unlink()
    (adapter_folder / "a.bin").write_bytes(b"")
    (adapter_folder / "b").mkdir()
    assert [problem.split()[0] for problem in problems_of(adapter_folder)] == [
        "manifest.json",
        "a.bin",
        "b",
    ]


def test_all_misfits_of_tokenizer_and_template_are_listed_in_one_error(adapter_folder, manifest):
    dataclasses.replace(
        manifest,
        token_ids={"terse": 98, "verbose": 99},
        prompt_format_version=2,
        template_sha256="0" * 64,
    ).save(adapter_folder)
    problems = "\n".join(problems_of(adapter_folder))
    for words in ("prompt format 2", "<STYLE_TERSE>", "<STYLE_VERBOSE>", "the chat template"):
        assert words in problems


def test_a_mismatch_is_a_value_error(adapter_folder):
    with pytest.raises(ValueError, match=r"manifest\.json is missing"):
        check_adapter(adapter_folder)
