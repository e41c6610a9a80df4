import json
from pathlib import Path

import pytest

from adapters.prompts import Message
from tests.training.shapes import MISTRAL_7B, settings
from training.dataset.rows import Row
from training.resources.checkup.trial import try_step
from training.resources.plan import choose_plan

LENGTHS = [10 * (number + 1) for number in range(20)]
ROWS = [Row((Message("user", f"question {n}"),), f"answer {n}", "terse") for n in range(20)]
PLAN = choose_plan(MISTRAL_7B, settings(), LENGTHS, 80 * 10**9)


class FakeTrainer:
    """Writes down what it is asked for, and the scores it is given."""

    def __init__(self, **scores):
        self.scores = {"train_seconds": 2.5, **scores}
        self.rows = []

    def __call__(self, config):
        assert not list(config.problems())
        self.config = config
        text = Path(config.train_data).read_text(encoding="utf-8")
        self.rows = [json.loads(line) for line in text.splitlines()]
        config.output.mkdir(parents=True)
        (config.output / "manifest.json").write_text(json.dumps({"scores": self.scores}))
        return config.output


def gigabytes(share):
    return share * PLAN.estimate.allocated / 1e9


def test_the_longest_rows_are_trained_for_one_step():
    trainer = FakeTrainer()

    config = settings(effective_batch_size=4, heldout_data="heldout.jsonl", hours=2.0)
    try_step(config, ROWS, LENGTHS, PLAN, trainer)

    assert [row["completion"] for row in trainer.rows] == [f"answer {n}" for n in (19, 18, 17, 16)]
    assert trainer.rows[0] == {
        "prompt": [{"role": "user", "content": "question 19"}],
        "completion": "answer 19",
        "style": "terse",
    }
    assert (trainer.config.max_steps, trainer.config.evaluate_prompts) == (1, 0)
    assert (trainer.config.heldout_data, trainer.config.hours) == (None, 0)


def test_nothing_is_left_behind():
    trainer = FakeTrainer()

    try_step(settings(), ROWS, LENGTHS, PLAN, trainer)

    assert not trainer.config.output.parent.exists()
    assert trainer.config.run_folder.is_relative_to(trainer.config.output.parent)


@pytest.mark.parametrize(
    ("share", "level"), [(1.0, "ok"), (1.14, "ok"), (0.9, "ok"), (0.8, "warning"), (1.3, "warning")]
)
def test_the_measured_peak_is_held_against_the_estimate(share, level):
    trainer = FakeTrainer(peak_memory_gb=gigabytes(share))

    finding = try_step(settings(), ROWS, LENGTHS, PLAN, trainer)

    assert finding.level == level
    assert f"peak {gigabytes(share):.1f} GB" in finding.text
    assert f"({1 / share - 1:+.0%})" in finding.text
    assert "2.5 s" in finding.text


def test_without_a_gpu_only_the_time_is_told():
    finding = try_step(settings(), ROWS, LENGTHS, PLAN, FakeTrainer())

    assert finding.level == "ok"
    assert "memory is measured on GPUs only" in finding.text


def test_pairs_and_labels_keep_what_their_methods_need():
    pair, label = FakeTrainer(), FakeTrainer()
    first = ROWS[0].messages

    try_step(settings(), [Row(first, "good", "terse", rejected="bad")], [5], PLAN, pair)
    try_step(settings(), [Row(first, "good", "terse", label=False)], [5], PLAN, label)

    assert (pair.rows[0]["chosen"], pair.rows[0]["rejected"]) == ("good", "bad")
    assert (label.rows[0]["completion"], label.rows[0]["label"]) == ("good", False)


def test_answers_of_both_labels_are_tried(tmp_path):
    trainer = FakeTrainer()
    rows = [Row(ROWS[0].messages, f"{n}", "terse", label=n > 0) for n in range(20)]
    config = settings(method="kto", adapter=tmp_path)

    try_step(config, rows, LENGTHS, PLAN, trainer)

    assert {row["label"] for row in trainer.rows} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [ROWS, [Row(ROWS[0].messages, "good", "terse", rejected="bad")]])
def test_what_is_written_is_read_back_as_it_was(rows, tmp_path):
    from training.dataset.load import read_rows
    from training.dataset.problems import Problems
    from training.resources.checkup.trial import write_rows

    write_rows(tmp_path / "rows.jsonl", rows)
    problems = Problems("rows.jsonl")
    found, _ = read_rows(
        str(tmp_path / "rows.jsonl"), ("terse", "verbose"), problems, "auto", "all"
    )

    assert not problems.found
    assert [(row.messages, row.completion, row.rejected, row.style) for row in found] == [
        (row.messages, row.completion, row.rejected, row.style) for row in rows
    ]
