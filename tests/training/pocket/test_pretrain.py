import dataclasses
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from training.compose import POCKET_FOLDER
from training.pocket.batches import endless_batches
from training.pocket.pretrain import PocketConfig, pretrain

pytestmark = pytest.mark.slow

TINY = PocketConfig(
    hidden_size=64, num_layers=1, num_heads=1, num_key_value_heads=1, intermediate_size=64,
    steps=3, batch_tokens=2048, warmup_steps=1, nf4_fraction=0.5, processes=1,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A tokenizer without a model."""
    for path in POCKET_FOLDER.glob("*.json*"):
        shutil.copy(path, tmp_path)
    shutil.copy(POCKET_FOLDER / "chat_template.jinja", tmp_path)
    return tmp_path


def first_batches(processes):
    batches = endless_batches(POCKET_FOLDER, 2048, seed=5, processes=processes)
    return [next(batches) for _ in range(300)]  # of more than one chunk


def test_batches_are_the_same_however_many_processes_make_them():
    alone, together = first_batches(1), first_batches(2)
    assert len({batch.ids.sum().item() for batch in alone}) > 250
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one.ids, other.ids)
        assert torch.equal(one.targets, other.targets)


def test_it_learns_for_as_many_steps_and_leaves_a_model(folder):
    told = []
    curve = pretrain(TINY, folder, told.append)
    assert [point.step for point in curve] == [3]
    assert told == curve
    assert 6 < curve[-1].heldout_loss < 10  # about the logarithm of the vocabulary, so early
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert (model.dtype, model.config.hidden_size) == (torch.bfloat16, 64)
    assert model.lm_head.weight.abs().max() > 0


def test_time_ends_it_before_the_steps_are_done(folder):
    config = dataclasses.replace(TINY, steps=10_000, max_seconds=1.0)
    curve = pretrain(config, folder, lambda _: None)
    assert curve[-1].step < 10_000
    assert curve[-1].seconds < 60
