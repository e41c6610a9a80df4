import dataclasses
import json

import pytest

from adapters.styles import STYLES, TERSE
from training.config import TrainConfig
from training.material import gather_material

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tiny_base, tiny_adapter, tmp_path):
    """A run that starts from a finished adapter."""
    rows = tmp_path / "rows.jsonl"
    questions = (f"What is number {number}?" for number in range(8))
    rows.write_text(
        "".join(json.dumps({"prompt": q, "completion": "One."}) + "\n" for q in questions)
    )
    return TrainConfig(
        name="tiny", base_model=str(tiny_base), train_data=str(rows), adapter=tiny_adapter
    )


def test_an_adapter_that_fits_is_started_from(config, tmp_path):
    material = gather_material(config, tmp_path / "tiny")

    assert set(material.token_ids) == {style.name for style in STYLES}
    assert len(material.examples.train) + len(material.examples.heldout) == 8
    assert set(material.data_sha256()) == {"train_data"}


def test_an_adapter_with_other_style_tokens_is_not_started_from(config, tmp_path):
    other = dataclasses.replace(TERSE, token="<STYLE_SHORT>")
    config = dataclasses.replace(config, styles=(other, *STYLES[1:]))

    with pytest.raises(ValueError, match="was trained with the style tokens"):
        gather_material(config, tmp_path / "tiny")


def test_positions_stay_stretched_as_they_were(config, tmp_path):
    config = dataclasses.replace(config, rope_factor=2.0)

    with pytest.raises(ValueError, match=r"rope_factor must be 1.0, as in the adapter"):
        gather_material(config, tmp_path / "tiny")


def test_an_adapter_that_is_not_there_is_named(config, tmp_path):
    config = dataclasses.replace(config, adapter=tmp_path / "nowhere")

    with pytest.raises(ValueError, match="there is no such folder"):
        gather_material(config, tmp_path / "tiny")


def test_batches_for_a_start_from_activations_are_padded_and_masked(config, tmp_path):
    material = gather_material(config, tmp_path / "tiny")

    batch = material.first_batches()[0]

    assert batch["input_ids"].shape == batch["labels"].shape == batch["attention_mask"].shape
    learned = batch["labels"] != -100
    assert bool((batch["labels"][learned] == batch["input_ids"][learned]).all())
    assert bool((batch["attention_mask"][learned] == 1).all())
    assert 0 < int(learned.sum()) < int(batch["attention_mask"].sum())
