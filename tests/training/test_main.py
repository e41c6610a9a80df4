"""The command line, as a shell sees it."""

import os
import subprocess
import sys
import time

import pytest

from tests.training.conftest import ROOT

POCKET = ["train", "--config", "training/configs/pocket.yaml"]
# Neither a device nor the network of the machine may decide what a test says.
ENVIRONMENT = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


def train(*arguments):
    return run("-m", "training", *arguments)


def test_a_missing_configuration_is_told_at_once():
    began = time.perf_counter()
    result = train("train", "--config", "nope.yaml")
    assert time.perf_counter() - began < 3
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: nope.yaml: ")
    assert "No such file" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_values_are_all_told_at_once():
    result = train(*POCKET, "--set", "lora_r=none", "--set", "lerning_rate=1e-4")
    assert result.returncode == 2
    assert "lora_r: must be int" in result.stderr
    assert "did you mean learning_rate?" in result.stderr


@pytest.mark.parametrize("statement", ["main()", "load_config(Path(sys.argv[3]))"])
def test_reading_the_configuration_needs_no_model_library(statement):
    config = "nope.yaml" if statement == "main()" else POCKET[2]
    code = (
        "import sys; from pathlib import Path\n"
        "from training.__main__ import main\n"
        "from training.config_file import load_config\n"
        f"sys.argv = ['training', 'train', '--config', {config!r}]\n"
        f"{statement}\n"
        "print(sorted({'torch', 'transformers', 'trl', 'peft', 'datasets'} & set(sys.modules)))"
    )
    result = run("-c", code)
    assert result.stdout == "[]\n", result.stderr


def test_help_names_the_options():
    result = train("train", "--help")
    assert result.returncode == 0
    assert "--config CONFIG" in result.stdout
    assert "--set NAME=VALUE" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["train"], ["serve"], [*POCKET, "--fast"]])
def test_a_command_line_that_says_too_little_or_too_much_is_refused(arguments):
    result = train(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: python -m training")


@pytest.mark.slow
def test_malformed_rows_are_told_without_a_traceback(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a"}\n[]\n')
    result = train(*POCKET, "--set", f"train_data={rows}", "--set", f"output={tmp_path / 'out'}")
    assert result.returncode == 2
    assert "rows.jsonl:1: 'completion' must be text" in result.stderr
    assert "rows.jsonl:2: a row is a JSON object" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("value", ["base_model=models/nowhere", "device=cuda", "lr_scheduler=odd"])
def test_what_only_the_libraries_can_tell_is_told_and_no_file_is_left(tmp_path, value):
    result = train(*POCKET, "--set", value, "--set", f"output={tmp_path / 'store' / 'pocket'}")
    assert result.returncode == 2
    told = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert value.partition("=")[2] in told
    assert "Traceback" not in result.stderr
    made = list(tmp_path.rglob("*"))
    assert not any(path.is_file() for path in made)
    assert value != "device=cuda" or made == []  # told before any folder is made
