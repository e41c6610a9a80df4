"""A short real training, watched from all sides."""

import dataclasses
import hashlib
import io

import pytest
import torch

from tests.training.watch.tiny_trainer import QUESTIONS, make_prompt, make_trainer
from training.config import TrainConfig
from training.watch.log_file import read_log
from training.watch.run_watch import RunWatch

pytestmark = pytest.mark.slow

CONFIG = TrainConfig(name="tiny", base_model="x", train_data="x")


def digest(trainer):
    trained = [p.detach() for p in trainer.model.parameters() if p.requires_grad]
    return hashlib.sha256(b"".join(p.numpy().tobytes() for p in trained)).hexdigest()


@pytest.fixture(scope="module")
def watched(tiny_base, tmp_path_factory):
    """The trainer after a watched run, the run's folder and what people saw."""
    folder, lines = tmp_path_factory.mktemp("watched"), io.StringIO()
    prompt, _ = make_prompt(tiny_base, folder / "tokenizer")
    config = dataclasses.replace(CONFIG, runs=folder)
    with RunWatch(config, stream=lines) as watch:
        callbacks = watch.callbacks(prompt, QUESTIONS)
        trainer = make_trainer(tiny_base, folder / "trainer", callbacks, logging_steps=3)
        trainer.train()
    return trainer, config.run_folder, lines.getvalue()


def test_the_log_has_every_event_in_order(watched):
    entries = read_log(watched[1] / "log.jsonl")

    assert [(entry["event"], entry["step"]) for entry in entries] == [
        ("evaluation", 2),
        ("samples", 2),
        ("training", 3),
        ("training", 4),  # the last one, though three steps have not passed
        ("evaluation", 4),
        ("samples", 4),
    ]


def test_the_figures_are_those_of_the_trainer(watched):
    trainer, folder, _ = watched
    [first, *_] = [e for e in read_log(folder / "log.jsonl") if e["event"] == "training"]
    told = next(entry for entry in trainer.state.log_history if "loss" in entry)

    assert first["loss"] == told["loss"]
    assert first["tokens"] == told["num_tokens"] > 0
    assert first["tokens_per_second"] > 0
    assert first["grad_norm"] > 0
    assert first["memory_gb"] > 0


def test_people_see_losses_and_answers_in_both_styles(watched):
    lines = watched[2].splitlines()

    assert any(line.startswith("step 2/4 · held-out loss ") for line in lines)
    assert any(line.startswith("step 3/4 · loss ") and "tok/s" in line for line in lines)
    at = lines.index("answers at step 2")
    assert lines[at + 1] == "  What is number 0?"
    assert lines[at + 2].startswith("    terse    ")
    assert lines[at + 3].startswith("    verbose  ")


def test_the_losses_are_drawn_at_the_end(watched):
    assert (watched[1] / "plots" / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_the_one_loss_for_the_best_checkpoint_is_in_the_history(watched):
    evaluations = [e for e in watched[0].state.log_history if "eval_loss" in e]

    assert [entry["step"] for entry in evaluations] == [2, 4]
    assert all("eval_loss/terse" in entry for entry in evaluations)


def test_watching_does_not_change_what_is_learned(watched, tiny_base, tmp_path):
    alone = make_trainer(tiny_base, tmp_path, eval_strategy="no", logging_steps=3)
    alone.train()

    assert digest(watched[0]) == digest(alone)


def test_training_stops_when_it_becomes_no_better(tiny_base, tmp_path):
    config = dataclasses.replace(CONFIG, runs=tmp_path, early_stopping_evaluations=1)
    prompt, _ = make_prompt(tiny_base, tmp_path / "tokenizer")
    lines = io.StringIO()
    with RunWatch(config, stream=lines) as watch:
        trainer = make_trainer(
            tiny_base,
            tmp_path / "trainer",
            watch.callbacks(prompt, []),
            eval_steps=1,
            max_steps=6,
            learning_rate=50.0,
            max_grad_norm=1e6,
        )
        trainer.train()

    assert trainer.state.global_step < 6
    assert "stopping early" in lines.getvalue()
    assert torch.is_grad_enabled()
