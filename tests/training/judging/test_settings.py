from pathlib import Path

import pytest

from training.judging.settings import engine_config

ADAPTER = Path("adapters/store/pocket")


def test_an_adapter_is_loaded_as_the_server_loads_it():
    config = engine_config(ADAPTER)

    assert config.adapter == ADAPTER
    assert (config.base_model, config.device, config.quantization) == ("", "auto", "nf4")


def test_single_settings_are_replaced():
    config = engine_config(ADAPTER, ["device=cpu", "base_model=a/b=c", "quantization=none"])

    assert (config.base_model, config.device, config.quantization) == ("a/b=c", "cpu", "none")


def test_everything_that_is_wrong_is_told_at_once():
    with pytest.raises(ValueError, match="write name=value") as refusal:
        engine_config(ADAPTER, ["cpu", "devise=cpu", "queue_size=3", "quantization=nf5"])

    told = str(refusal.value)
    assert "unknown setting 'devise'; did you mean device?" in told
    assert "unknown setting 'queue_size'; known: base_model, device" in told
    assert "quantization must be one of nf4, none, not 'nf5'" in told
