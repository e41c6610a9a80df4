from pathlib import Path

import pytest
import yaml

from adapters.styles import STYLES
from tests.training.conftest import LINEAR_LAYERS, ROOT, check_golden_values
from training.config_file import load_config

CONFIGS = sorted((ROOT / "training" / "configs").glob("*.yaml"))


def test_the_shipped_configurations_are_found():
    assert [path.stem for path in CONFIGS] == [
        "mac",
        "memory-constrained",
        "mistral-7b-16gb",
        "mistral-7b-24gb",
        "mistral-7b-golden",
        "pocket",
        "tinyllama-1.1b",
    ]


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_used_to_the_last_key(path):
    config = load_config(path)
    for name, value in yaml.safe_load(path.read_text()).items():
        wanted = str(value) if isinstance(getattr(config, name), Path) else value
        assert config.to_dict()[name] == wanted


@pytest.mark.usefixtures("in_root")
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_trains_the_two_styles_on_the_shipped_rows(path):
    config = load_config(path)
    assert config.name == path.stem
    assert config.styles == STYLES
    assert config.train_data == "training/data/verbosity_pairs.jsonl"
    assert config.heldout_data == "training/data/verbosity_heldout.jsonl"
    assert config.output_folder == Path("adapters/store") / path.stem
    assert config.evaluate_prompts == 25


@pytest.mark.usefixtures("in_root")
def test_the_golden_configuration_has_the_golden_values():
    config = load_config(ROOT / "training/configs/mistral-7b-golden.yaml")
    assert config.base_model == "mistralai/Mistral-7B-v0.3"
    check_golden_values(config)


def test_the_golden_configuration_writes_every_golden_value_out():
    text = (ROOT / "training/configs/mistral-7b-golden.yaml").read_text()
    assert set(yaml.safe_load(text)) >= {
        "quantization",
        "lora_r",
        "lora_alpha",
        "lora_dropout",
        "target_modules",
        "learning_rate",
        "lr_scheduler",
        "warmup_fraction",
        "optimizer",
        "epochs",
        "effective_batch_size",
        "gradient_checkpointing",
    }


@pytest.mark.usefixtures("in_root")
def test_the_pocket_configuration_keeps_the_golden_ranks_and_batch():
    config = load_config(ROOT / "training/configs/pocket.yaml")
    assert config.base_model == "models/pocket"
    assert config.quantization == "nf4"
    assert (config.lora_r, config.lora_alpha) == (16, 32)
    assert config.target_modules == LINEAR_LAYERS
    assert (config.effective_batch_size, config.epochs) == (16, 1)
