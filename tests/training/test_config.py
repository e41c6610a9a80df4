import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from adapters.styles import STYLES, Preset, Style
from tests.training.conftest import LINEAR_LAYERS, check_golden_values
from training.config import TrainConfig
from training.config_file import ConfigError, load_config

PIRATE = {
    "name": "pirate",
    "token": "<ARR>",
    "description": "Arr.",
    "preset": {"temperature": 0.5, "top_p": 0.9, "min_new_tokens": 0, "max_new_tokens": 99},
}


@pytest.fixture
def values(tmp_path):
    """The least a configuration needs."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    return {
        "name": "tiny",
        "base_model": "models/tiny",
        "train_data": str(rows),
        "evaluate_prompts": 0,
    }


@pytest.fixture
def path(tmp_path, values):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def write(path, **values):
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **values}))
    return path


def problems_of(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    first, *problems = str(caught.value).splitlines()
    assert first == f"{path}:"
    return [problem.removeprefix("  - ") for problem in problems]


# Values


def test_the_defaults_are_the_golden_values(path):
    check_golden_values(load_config(path))


def test_the_adapter_goes_to_the_store_under_its_name(path):
    assert load_config(path).output_folder == Path("adapters/store/tiny")


def test_a_given_output_folder_is_used(path):
    assert load_config(path, ["output=/tmp/here"]).output_folder == Path("/tmp/here")


def test_styles_of_ones_own_can_be_given(path):
    preset = Preset(temperature=0.5, top_p=0.9, min_new_tokens=0, max_new_tokens=99)
    config = load_config(write(path, styles=[PIRATE]))
    assert config.styles == (Style("pirate", "<ARR>", "Arr.", preset),)
    assert config.style_names == ("pirate",)


def test_a_configuration_is_plain_data_for_the_manifest(path):
    config = load_config(path, ["output=/tmp/here"])
    plain = json.loads(json.dumps(config.to_dict()))
    assert plain == config.to_dict()
    assert set(plain) == {field.name for field in dataclasses.fields(TrainConfig)}
    assert plain["train_data"] == str(config.train_data)
    assert plain["target_modules"] == list(LINEAR_LAYERS)
    assert plain["styles"][0] == STYLES[0].to_dict()


def test_what_the_manifest_keeps_loads_as_the_same_configuration(path, tmp_path):
    config = load_config(path, ["output=/tmp/here"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(yaml.safe_dump(config.to_dict()))
    assert load_config(copy) == config


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("learning_rate=1e-4", "learning_rate", 1e-4),
        ("learning_rate=1.0e-4", "learning_rate", 1e-4),
        ("learning_rate=1", "learning_rate", 1.0),
        ("epochs=0.5", "epochs", 0.5),
        ("lora_r=8", "lora_r", 8),
        ("max_steps=-1", "max_steps", -1),
        ("gradient_checkpointing=auto", "gradient_checkpointing", "auto"),
        ("gradient_checkpointing=false", "gradient_checkpointing", False),
        ("gradient_checkpointing=True", "gradient_checkpointing", True),
        ("target_modules=[q_proj, v_proj]", "target_modules", ("q_proj", "v_proj")),
        ("quantization=none", "quantization", "none"),
        ("base_model=a=b", "base_model", "a=b"),
        (" name = other", "name", "other"),
        ("version='2'", "version", "2"),
        ("heldout_data=null", "heldout_data", None),
    ],
)
def test_a_value_set_on_the_command_line_replaces_the_files(path, override, name, value):
    write(path, heldout_data=yaml.safe_load(path.read_text())["train_data"])
    found = getattr(load_config(path, [override]), name)
    assert found == value
    assert type(found) is type(value)


def test_the_last_of_two_set_values_counts(path):
    assert load_config(path, ["lora_r=8", "lora_r=4"]).lora_r == 4


@pytest.mark.parametrize(
    "value", ["learning_rate=2e-4", "learning_rate=2.0e-4", "learning_rate=0.0002"]
)
def test_a_file_may_write_a_learning_rate_in_any_form(path, value):
    path.write_text(path.read_text() + value.replace("=", ": "))
    assert load_config(path).learning_rate == 2e-4


# What is refused


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("learning_rate=true", "learning_rate: must be a number, not True"),
        ("learning_rate=fast", "learning_rate: could not convert string to float: 'fast'"),
        ("learning_rate=[1]", "learning_rate: must be a number, not [1]"),
        ("learning_rate=", "learning_rate: must be a number, not None"),
        ("learning_rate=.nan", "learning_rate must be above 0, not nan"),
        ("learning_rate=0", "learning_rate must be above 0, not 0.0"),
        ("lora_r=true", "lora_r: must be int, not True"),
        ("lora_r=8.0", "lora_r: must be int, not 8.0"),
        ("lora_r=0", "lora_r must be above 0, not 0"),
        ("lora_alpha=-1", "lora_alpha must be above 0, not -1"),
        ("epochs=0", "epochs must be above 0, not 0.0"),
        ("max_length=0", "max_length must be above 0, not 0"),
        ("max_steps=0", "max_steps must be -1 or at least 1, not 0"),
        ("max_steps=-2", "max_steps must be -1 or at least 1, not -2"),
        ("lora_dropout=1", "lora_dropout must be from 0 to below 1, not 1.0"),
        ("lora_dropout=-0.1", "lora_dropout must be from 0 to below 1, not -0.1"),
        ("warmup_fraction=1", "warmup_fraction must be from 0 to below 1, not 1.0"),
        ("micro_batch_size=3", "micro_batch_size 3 must divide effective_batch_size 16"),
        ("micro_batch_size=32", "micro_batch_size 32 must divide effective_batch_size 16"),
        ("micro_batch_size=-1", "micro_batch_size must be 0 or more, not -1"),
        (
            "gradient_checkpointing=1",
            "gradient_checkpointing: must be one of auto, true, false, not 1",
        ),
        (
            "gradient_checkpointing=maybe",
            "gradient_checkpointing: must be one of auto, true, false, not 'maybe'",
        ),
        ("quantization=int8", "quantization: must be one of nf4, none, not 'int8'"),
        ("device=tpu", "device: must be one of auto, cuda, mps, cpu, not 'tpu'"),
        ("version=2", "version: must be str, not 2"),
        ("train_data=5", "train_data: must be str, not 5"),
        ("train_data=nowhere.jsonl", "data file nowhere.jsonl does not exist"),
        ("heldout_data=nowhere.jsonl", "data file nowhere.jsonl does not exist"),
        ("target_modules=q_proj", "target_modules: must be a list of names, not 'q_proj'"),
        ("target_modules=[1]", "target_modules: must be a list of names, not [1]"),
        ("styles=[]", "styles must name at least one"),
        ("lerning_rate=1", "unknown key 'lerning_rate'; did you mean learning_rate?"),
        ("zzz=1", "unknown key 'zzz'"),
        ("lora_r", "--set lora_r: write name=value"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(path, override, problem):
    assert problems_of(path, override) == [problem]


@pytest.mark.parametrize(
    "override", ["effective_batch_size=0", "effective_batch_size=-16", "logging_steps=0", "seed=-1"]
)
def test_a_number_that_no_run_can_use_is_refused(path, override):
    name = override.partition("=")[0]
    assert any(name in problem for problem in problems_of(path, override))


@pytest.mark.parametrize("name", ["name", "base_model", "train_data"])
def test_a_required_value_must_be_given(path, values, name):
    del values[name]
    path.write_text(yaml.safe_dump(values))
    assert problems_of(path) == [f"{name} is missing"]


@pytest.mark.parametrize(
    "styles",
    [
        "terse",
        5,
        [5],
        ["terse"],
        [{}],
        [{**PIRATE, "colour": "red"}],
        [{**PIRATE, "preset": {**PIRATE["preset"], "top_p": 5}}],
        [{**PIRATE, "preset": None}],
        [{**PIRATE, "name": ""}],
        [{**PIRATE, "token": "two words"}],
        [{**PIRATE, "token": 5}],
        [{**PIRATE, "name": 5}],
        [PIRATE, {**PIRATE, "token": "<OTHER>"}],
    ],
)
def test_styles_that_cannot_be_used_are_refused(path, styles):
    [problem] = problems_of(write(path, styles=styles))
    assert problem.startswith("styles")


def test_two_styles_cannot_share_a_token(path):
    [problem] = problems_of(write(path, styles=[PIRATE, {**PIRATE, "name": "poet"}]))
    assert "<ARR>" in problem


def test_all_names_and_types_that_are_wrong_are_listed_at_once(path):
    write(path, lerning_rate=1, lora_r="many", device="tpu")
    assert problems_of(path, "lora_alpha", "epochs=long") == [
        "--set lora_alpha: write name=value",
        "device: must be one of auto, cuda, mps, cpu, not 'tpu'",
        "unknown key 'lerning_rate'; did you mean learning_rate?",
        "lora_r: must be int, not 'many'",
        "epochs: could not convert string to float: 'long'",
    ]


def test_all_values_that_are_wrong_are_listed_at_once(path):
    problems = problems_of(path, "lora_r=0", "lora_dropout=2", "max_steps=-5", "train_data=gone")
    assert len(problems) == 4


def test_an_unknown_name_does_not_hide_a_bad_value(path):
    problems = problems_of(path, "lerning_rate=1", "lora_r=0")
    assert len(problems) == 2


@pytest.mark.parametrize("text", ["", "- a\n- b", "name", "7"])
def test_a_file_that_is_no_mapping_is_refused(path, text):
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml: must be a mapping of names to values"):
        load_config(path)


@pytest.mark.parametrize(
    "content", [b"name: [", b"name: a\n\tb: c", b"a: !!python/object:os.system {}", b"\xff\xfe\x00"]
)
def test_a_file_that_is_no_yaml_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.yaml: "):
        load_config(path)


def test_a_set_value_that_is_no_yaml_is_refused(path):
    [problem] = problems_of(path, "target_modules=[q_proj")
    assert "target_modules" in problem


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "nope.yaml")
