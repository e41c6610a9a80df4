import dataclasses
import math
from pathlib import Path

import pytest

from serving.config import PROJECT_FOLDER, EngineConfig
from serving.environment import read_environment


def read(environment):
    [config] = read_environment(environment, EngineConfig)
    return config


# What operators write, and what each of them means. Renaming one breaks deployments.
ENVIRONMENT = {
    "LACONIC_ADAPTER": "/srv/adapters/mine",
    "LACONIC_BASE_MODEL": "mistralai/Mistral-7B-v0.3",
    "LACONIC_DEVICE": "cpu",
    "LACONIC_QUANTIZATION": "none",
    "LACONIC_WEIGHTS": "bf16",
    "LACONIC_DTYPE": "bfloat16",
    "LACONIC_PRESETS": "/srv/presets.json",
    "LACONIC_MAX_PROMPT_TOKENS": "2048",
    "LACONIC_MAX_NEW_TOKENS": "300",
    "LACONIC_MAX_BATCH_SIZE": "16",
    "LACONIC_QUEUE_SIZE": "64",
    "LACONIC_PROMPT_TOKENS_PER_STEP": "512",
    "LACONIC_KV_CACHE_GB": "2.5",
    "LACONIC_REQUEST_TIMEOUT_SECONDS": "7.5",
    "LACONIC_STALL_SECONDS": "20",
}
CONFIG = EngineConfig(
    adapter=Path("/srv/adapters/mine"),
    base_model="mistralai/Mistral-7B-v0.3",
    device="cpu",
    quantization="none",
    weights="bf16",
    dtype="bfloat16",
    presets=Path("/srv/presets.json"),
    max_prompt_tokens=2048,
    max_new_tokens=300,
    max_batch_size=16,
    prompt_tokens_per_step=512,
    kv_cache_gb=2.5,
    queue_size=64,
    request_timeout_seconds=7.5,
    stall_seconds=20.0,
)
COUNTS = [
    "max_prompt_tokens",
    "max_new_tokens",
    "max_batch_size",
    "prompt_tokens_per_step",
    "queue_size",
]

MEASURES = ["kv_cache_gb", "request_timeout_seconds", "stall_seconds"]


def complaint(environment):
    with pytest.raises(ValueError, match=r"LACONIC_|must be") as caught:
        read(environment)
    return str(caught.value)


def test_the_names_of_the_settings_are_frozen():
    names = {f"LACONIC_{field.name.upper()}" for field in dataclasses.fields(EngineConfig)}
    assert names == set(ENVIRONMENT)


def test_the_defaults_are_frozen():
    assert read({}) == EngineConfig(
        adapter=PROJECT_FOLDER / "adapters" / "store" / "pocket",
        base_model="",
        device="auto",
        quantization="nf4",
        weights="auto",
        dtype="auto",
        presets=None,
        max_prompt_tokens=1024,
        max_new_tokens=512,
        max_batch_size=64,
        prompt_tokens_per_step=None,
        kv_cache_gb=None,
        queue_size=64,
        request_timeout_seconds=120.0,
        stall_seconds=60.0,
    )


def test_every_setting_is_read_from_its_variable():
    assert read(ENVIRONMENT) == CONFIG


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_one_variable_sets_one_field_and_leaves_the_others(variable):
    name = variable.removeprefix("LACONIC_").lower()
    config = read({variable: ENVIRONMENT[variable]})
    assert config == dataclasses.replace(EngineConfig(), **{name: getattr(CONFIG, name)})


def test_variables_of_other_programs_are_left_alone():
    environment = {"PATH": "/bin", "DEVICE": "tpu", "MY_LACONIC_DEVICE": "tpu", "LACONIC": "1"}
    assert read(environment) == EngineConfig()


def test_an_unknown_variable_is_refused_with_the_nearest_known_one():
    message = complaint({"LACONIC_MAX_BATCHSIZE": "4"})
    assert "LACONIC_MAX_BATCHSIZE" in message
    assert "did you mean LACONIC_MAX_BATCH_SIZE?" in message


def test_an_unknown_variable_that_is_like_none_gets_no_suggestion():
    message = complaint({"LACONIC_XYZZY": "4"})
    assert "LACONIC_XYZZY" in message
    assert "did you mean" not in message


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("text", ["many", "1.5", ""])
def test_a_count_that_is_no_whole_number_is_refused_by_name(name, text):
    variable = f"LACONIC_{name.upper()}"
    assert f"{variable}={text!r}" in complaint({variable: text})


@pytest.mark.parametrize("text", ["soon", "5s", ""])
def test_a_timeout_that_is_no_number_is_refused_by_name(text):
    message = complaint({"LACONIC_REQUEST_TIMEOUT_SECONDS": text})
    assert f"LACONIC_REQUEST_TIMEOUT_SECONDS={text!r}" in message


@pytest.mark.parametrize(
    "name", [*COUNTS, "kv_cache_gb", "request_timeout_seconds", "stall_seconds"]
)
@pytest.mark.parametrize("value", [0, -1])
def test_a_number_that_is_not_above_zero_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be above 0, not {value}"):
        EngineConfig(**{name: value})


def test_a_timeout_that_is_no_number_at_all_is_refused():
    with pytest.raises(ValueError, match="request_timeout_seconds"):
        EngineConfig(request_timeout_seconds=math.nan)


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("device", "tpu", "auto, cuda, mps, cpu"),
        ("quantization", "int8", "nf4, none"),
        ("weights", "int4", "auto, nf4, bf16"),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_with_those_that_do(name, value, known):
    message = complaint({f"LACONIC_{name.upper()}": value})
    assert name in message
    assert repr(value) in message
    assert known in message


def test_values_out_of_range_are_all_listed():
    message = complaint(
        {"LACONIC_DEVICE": "tpu", "LACONIC_QUEUE_SIZE": "0", "LACONIC_MAX_NEW_TOKENS": "-5"}
    )
    for name in ("device", "queue_size", "max_new_tokens"):
        assert name in message


def test_everything_that_is_wrong_is_listed_at_once():
    message = complaint(
        {
            "LACONIC_MAX_BATCHSIZE": "4",
            "LACONIC_MAX_NEW_TOKENS": "many",
            "LACONIC_DEVICE": "tpu",
            "LACONIC_QUEUE_SIZE": "0",
        }
    )
    for name in ("max_batchsize", "max_new_tokens", "device", "queue_size"):
        assert name in message.lower()


def test_settings_cannot_be_changed_once_made():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EngineConfig().queue_size = 1
