import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import adapters
from adapters.manifest import AdapterManifest, AdapterMismatchError, FileEntry, check_adapter
from adapters.styles import TERSE, VERBOSE, Preset

FILES = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
]


def problems_of(folder, base=None):
    """What `check_adapter` finds wrong; every problem must be in the message too."""
    with pytest.raises(AdapterMismatchError) as caught:
        check_adapter(folder, base)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    assert str(folder) in str(caught.value)
    return caught.value.problems


def refused_positions(path, positions, change):
    """Change one byte at a time; how many of the positions were refused under the file's name."""
    original, refused = path.read_bytes(), 0
    for position in positions:
        altered = bytearray(original)
        altered[position] = change(altered[position])
        path.write_bytes(altered)
        [problem] = problems_of(path.parent)
        refused += problem.startswith(path.name)
    path.write_bytes(original)
    return refused


def rewrite(folder, **values):
    """Replace top-level values of the manifest's JSON, leaving everything else as it is."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}, indent=2) + "\n")


# A sound folder


def test_what_was_saved_is_what_is_read(adapter_folder, manifest, base):
    assert check_adapter(adapter_folder, base) == manifest


def test_a_folder_can_be_checked_without_its_base(adapter_folder, manifest):
    assert check_adapter(adapter_folder) == manifest


def test_a_manifest_survives_the_way_through_its_text(manifest):
    assert AdapterManifest.from_json(manifest.to_json()) == manifest


def test_stretched_positions_survive_too_and_are_written_only_if_there_are_any(manifest):
    stretched = dataclasses.replace(manifest, rope_factor=2.0)

    assert AdapterManifest.from_json(stretched.to_json()) == stretched
    assert "rope_factor" not in manifest.to_json()


def test_every_file_but_the_manifest_is_described(adapter_folder, manifest):
    assert sorted(manifest.files) == FILES
    weights = (adapter_folder / "adapter_model.safetensors").read_bytes()
    assert manifest.files["adapter_model.safetensors"] == FileEntry(
        size=len(weights), sha256=hashlib.sha256(weights).hexdigest()
    )


def test_saving_again_changes_nothing(adapter_folder, manifest):
    before = (adapter_folder / "manifest.json").read_bytes()
    assert manifest.save(adapter_folder) == manifest
    assert (adapter_folder / "manifest.json").read_bytes() == before


def test_the_keys_of_the_manifest_are_frozen(adapter_folder, manifest):
    data = json.loads((adapter_folder / "manifest.json").read_text())
    assert list(data) == [
        "schema",
        "name",
        "version",
        "created",
        "base",
        "styles",
        "default_style",
        "prompt",
        "training",
        "scores",
        "files",
        "digest",
    ]
    assert list(data["base"]) == ["name", "architecture", "vocab_size", "fingerprint"]
    assert list(data["styles"]) == ["terse", "verbose"]
    assert list(data["styles"]["terse"]) == ["token", "token_id", "description", "preset"]
    assert list(data["prompt"]) == ["format_version", "template_sha256"]
    assert list(data["files"]["tokenizer.json"]) == ["size", "sha256"]


# Changed bytes


@pytest.mark.parametrize("name", ["adapter_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("bit", [0, 5, 7])
def test_any_changed_byte_of_a_small_file_is_refused(adapter_folder, manifest, name, bit):
    path = adapter_folder / name
    positions = range(path.stat().st_size)
    assert refused_positions(path, positions, lambda byte: byte ^ 1 << bit) == len(positions)


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"]
)
def test_any_changed_byte_of_a_large_file_is_refused(adapter_folder, manifest, name):
    path = adapter_folder / name
    size = path.stat().st_size
    positions = sorted({*range(0, size, 1 + size // 200), size - 1})
    assert refused_positions(path, positions, lambda byte: byte ^ 1) == len(positions)


@pytest.mark.parametrize("bit", [0, 5])
def test_any_changed_byte_of_the_manifest_is_refused(adapter_folder, manifest, bit):
    path = adapter_folder / "manifest.json"
    positions = range(path.stat().st_size)
    assert refused_positions(path, positions, lambda byte: byte ^ 1 << bit) == len(positions)


@pytest.mark.parametrize("line_end", [b"\r", b"\r\n"])
def test_other_line_ends_in_the_manifest_are_refused(adapter_folder, manifest, line_end):
    path = adapter_folder / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"\n", line_end, 1))
    [problem] = problems_of(adapter_folder)
    assert problem == "manifest.json: changed since it was written"


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("kept", [0, 0.5, -1])
def test_a_truncated_file_is_refused(adapter_folder, manifest, name, kept):
    path = adapter_folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if kept == -1 else whole[: int(len(whole) * kept)])
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(name)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_file_that_has_grown_is_refused(adapter_folder, manifest, name):
    path = adapter_folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(name)


def test_a_wrong_size_is_told_in_bytes(adapter_folder, manifest):
    (adapter_folder / "adapter_config.json").write_text("{}")
    size = manifest.files["adapter_config.json"].size
    assert problems_of(adapter_folder) == [
        f"adapter_config.json has 2 bytes, the manifest says {size}"
    ]


# Missing and extra files


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(adapter_folder, manifest, name):
    (adapter_folder / name).unlink()
    assert problems_of(adapter_folder) == [f"{name} is missing"]


@pytest.mark.parametrize("name", [name for name in FILES if name != "chat_template.jinja"])
def test_a_file_every_adapter_needs_is_missed_even_if_the_manifest_never_named_it(
    adapter_folder, manifest, name
):
    (adapter_folder / name).unlink()
    manifest.save(adapter_folder)
    assert problems_of(adapter_folder) == [f"{name} is missing"]


@pytest.mark.parametrize("name", ["README.md", ".hidden", "model.safetensors"])
def test_an_extra_file_is_refused(adapter_folder, manifest, name):
    (adapter_folder / name).write_bytes(b"")
    assert problems_of(adapter_folder) == [f"{name} is not in the manifest"]


def test_a_folder_inside_is_refused(adapter_folder, manifest):
    (adapter_folder / "checkpoint-100").mkdir()
    assert problems_of(adapter_folder) == ["checkpoint-100 is not a plain file"]


def test_a_link_to_nothing_is_refused(adapter_folder, manifest):
    (adapter_folder / "tokenizer.model").symlink_to(adapter_folder / "nowhere")
    assert problems_of(adapter_folder) == ["tokenizer.model is not a plain file"]


@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "pkl", "pickle", "ckpt"])
def test_a_pickle_is_refused(adapter_folder, manifest, suffix):
    (adapter_folder / f"adapter_model.{suffix}").write_bytes(b"\x80\x04.")
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(f"adapter_model.{suffix} is a pickle")


@pytest.mark.parametrize("suffix", ["bin", "pt", "pkl"])
def test_a_pickle_is_refused_even_if_the_manifest_names_it(adapter_folder, manifest, suffix):
    (adapter_folder / f"adapter_model.{suffix}").write_bytes(b"\x80\x04.")
    manifest.save(adapter_folder)
    [problem] = problems_of(adapter_folder)
    assert problem.startswith(f"adapter_model.{suffix} is a pickle")


def test_a_missing_folder_is_refused_with_the_way_to_make_one(tmp_path):
    [problem] = problems_of(tmp_path / "nowhere")
    assert "no such folder" in problem
    assert "make train" in problem


def test_a_folder_without_a_manifest_is_refused(adapter_folder, manifest):
    (adapter_folder / "manifest.json").unlink()
    [problem] = problems_of(adapter_folder)
    assert problem.startswith("manifest.json is missing")


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


# Styles


def test_a_style_is_found_by_its_name(manifest):
    assert manifest.style("verbose") == VERBOSE


def test_no_name_means_the_default_style(manifest):
    assert dataclasses.replace(manifest, default_style="verbose").style(None) == VERBOSE


@pytest.mark.parametrize("name", ["rude", "", "TERSE"])
def test_an_unknown_style_is_not_found(manifest, name):
    with pytest.raises(KeyError):
        manifest.style(name)


# An operator's presets


def test_an_operators_values_replace_those_of_the_preset(manifest):
    changed = manifest.with_presets({"verbose": {"temperature": 0, "min_new_tokens": 0}})
    assert changed.style("verbose").preset == Preset(0, 0.9, 0, 256)


def test_presets_an_operator_does_not_name_stay_as_they_are(manifest):
    changed = manifest.with_presets({"verbose": {"top_p": 1}})
    assert changed.style("terse") == TERSE
    assert manifest.style("verbose") == VERBOSE
    assert [style.name for style in changed.styles] == ["terse", "verbose"]


def test_no_overrides_change_nothing(manifest):
    assert manifest.with_presets({}) == manifest


def test_all_bad_overrides_are_listed_at_once(manifest):
    with pytest.raises(ValueError, match="presets") as caught:
        manifest.with_presets(
            {
                "rude": {"top_p": 1},
                "terse": {"colour": "red"},
                "verbose": {"top_p": 2, "max_new_tokens": 0},
            }
        )
    for words in (
        "unknown style 'rude'; known: terse, verbose",
        "terse: ",
        "colour",
        "verbose: top_p must be",
        "max_new_tokens must be",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": "hot"},
        {"temperature": None},
        {"top_p": "1"},
        {"max_new_tokens": 12.5},
        {"max_new_tokens": "12"},
        {"do_sample": "no"},
        {"do_sample": None},
    ],
    ids=str,
)
def test_an_override_of_the_wrong_type_is_refused(manifest, values):
    with pytest.raises(ValueError, match="presets: terse: "):
        manifest.with_presets({"terse": values})


@pytest.mark.parametrize("values", [None, 1, [1], "hot"])
def test_overrides_that_are_no_mapping_are_refused(manifest, values):
    with pytest.raises(ValueError, match="presets: terse: "):
        manifest.with_presets({"terse": values})


# The contract needs no model library


def test_importing_the_contract_loads_no_model_library():
    folder = Path(adapters.__file__).parent
    modules = sorted(f"adapters.{path.stem}" for path in folder.glob("[!_]*.py"))
    code = (
        f"import sys, {', '.join(modules)}\n"
        "print(sorted({'torch', 'transformers', 'peft', 'flask', 'numpy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder.parent, capture_output=True, text=True, check=True
    )
    assert "adapters.manifest" in modules
    assert result.stdout.strip() == "[]"
