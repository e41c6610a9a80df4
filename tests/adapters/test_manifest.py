import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import adapters
from adapters.manifest import AdapterManifest, FileEntry, check_adapter
from adapters.styles import TERSE, VERBOSE, Preset
from tests.adapters.conftest import FILES

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
