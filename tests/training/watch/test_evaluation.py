import math
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from tests.training.watch.tiny_trainer import make_trainer
from training.watch.evaluation import (
    StyleEvaluation,
    StyleLosses,
    TokenLosses,
    measure_losses,
    perplexity,
    to_entry,
)

HALVES = StyleLosses({"terse": TokenLosses(6.0, 2), "verbose": TokenLosses(8.0, 8)})


def test_every_token_counts_alike_in_the_loss_over_all_styles():
    metrics = HALVES.metrics()

    assert metrics["eval_loss"] == 14 / 10
    assert metrics["eval_loss/terse"] == 3.0
    assert metrics["eval_loss/verbose"] == 1.0


def test_perplexity_is_the_exponential_of_each_loss():
    metrics = HALVES.metrics()

    assert metrics["eval_perplexity"] == math.exp(1.4)
    assert metrics["eval_perplexity/terse"] == math.exp(3.0)


def test_a_loss_beyond_all_bounds_has_an_infinite_perplexity():
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_no_learned_token_at_all_is_no_perfect_loss():
    assert math.isnan(StyleLosses().metrics()["eval_loss"])


def test_an_entry_takes_the_styles_out_of_the_metrics():
    entry = to_entry({**HALVES.metrics(), "epoch": 0.5, "eval_seconds": 1.0}, 5, 10)

    assert (entry.step, entry.total_steps, entry.epoch) == (5, 10, 0.5)
    assert entry.heldout_loss == 1.4
    assert entry.heldout_loss_by_style == {"terse": 3.0, "verbose": 1.0}
    assert entry.heldout_perplexity_by_style["verbose"] == math.exp(1.0)


def test_the_loss_of_another_method_has_no_perplexity():
    entry = to_entry({"eval_loss": 0.69, "eval_rewards/margins": 0.1}, 5, 10)

    assert entry.heldout_perplexity is None
    assert entry.heldout_loss_by_style == {}


def row(ids, num_prompt, style):
    """Each learned token costs as much as its id says."""
    return {"input_ids": ids, "labels": [-100] * num_prompt + ids[num_prompt:], "style": style}


ROWS = [
    row([9, 1, 2, 3], 2, "verbose"),
    row([9, 5], 1, "terse"),
    row([9, 9, 9, 4, 6], 3, "verbose"),
    row([9, 7, 1], 1, "terse"),
    row([9, 8], 1, "terse"),
]


class FakeModel:
    """The loss of a learned token is its id; remembers what it was given, and in which mode."""

    device = torch.device("cpu")

    def __init__(self):
        self.training = True
        self.shapes = []

    def eval(self):
        self.train(False)

    def train(self, mode=True):
        self.training = mode

    def __call__(self, input_ids, attention_mask, labels, use_cache, fused_lm_head):
        assert not self.training
        assert fused_lm_head
        assert not torch.is_grad_enabled()
        assert (labels[attention_mask == 0] == -100).all()
        self.shapes.append(tuple(input_ids.shape))
        learned = labels[:, 1:] != -100
        return SimpleNamespace(log_probs=-(input_ids[:, 1:] * learned).float())


class FakeTrainer(StyleEvaluation):
    """One of the processes of a run; what each of them adds is added by hand."""

    def __init__(self, rows, process=0, tables=None):
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        self.eval_dataset = Dataset.from_dict(columns)
        self.model, self.logged, self.told = FakeModel(), [], []
        processes = 1 if tables is None else 2
        self.args = SimpleNamespace(
            world_size=processes, process_index=process, per_device_eval_batch_size=2
        )
        self.state, self.control = object(), object()
        self.callback_handler = self
        self.accelerator = SimpleNamespace(
            autocast=nullcontext, num_processes=processes, device="cpu", reduce=self.add
        )
        self.tables = tables

    def add(self, table, how):
        assert how == "sum"
        self.tables.append(table)
        return sum(self.tables)

    def log(self, metrics):
        self.logged.append((dict(metrics), self.model.training))

    def on_evaluate(self, args, state, control, metrics):
        self.told.append(metrics)
        return "what the callbacks decided"


def test_losses_are_sums_over_the_learned_tokens_of_each_style():
    losses = measure_losses(FakeModel(), ROWS, 2)

    assert losses.by_style == {
        "terse": TokenLosses(5 + 7 + 1 + 8, 4),
        "verbose": TokenLosses(2 + 3 + 4 + 6, 4),
    }


def test_rows_of_like_length_share_a_batch():
    model = FakeModel()

    measure_losses(model, ROWS, 2)

    assert model.shapes == [(2, 2), (2, 4), (1, 5)]


def test_a_first_token_that_is_marked_as_learned_does_not_count():
    whole = {"input_ids": [9, 5], "labels": [9, 5], "style": "terse"}

    assert measure_losses(FakeModel(), [whole], 1).overall == TokenLosses(5, 1)


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_model_is_put_back_even_after_an_error(mode):
    model = FakeModel()
    model.train(mode)

    measure_losses(model, ROWS, 2)
    assert model.training is mode

    with pytest.raises(KeyError):
        measure_losses(model, [{"input_ids": [1]}], 2)
    assert model.training is mode


def test_an_evaluation_is_logged_in_evaluation_mode_and_told_to_the_callbacks():
    trainer = FakeTrainer(ROWS)

    metrics = trainer.evaluate()

    assert metrics["eval_loss"] == 36 / 8
    assert metrics["eval_loss/terse"] == 21 / 4
    assert metrics["eval_seconds"] >= 0
    assert trainer.logged == [(metrics, False)]
    assert trainer.told == [metrics]
    assert trainer.control == "what the callbacks decided"
    assert trainer.model.training


def test_other_rows_and_another_prefix_may_be_given():
    other = Dataset.from_list([{"input_ids": [9, 3], "labels": [-100, 3]}])

    metrics = FakeTrainer(ROWS).evaluate(other, metric_key_prefix="test")

    assert metrics.pop("test_seconds") >= 0
    assert metrics == {"test_loss": 3.0, "test_perplexity": math.exp(3.0)}


def test_two_processes_measure_half_the_rows_each_and_agree():
    tables = []
    FakeTrainer(ROWS, 1, tables).evaluate()
    main = FakeTrainer(ROWS, 0, tables)

    metrics = main.evaluate()

    assert sum(rows for rows, _ in main.model.shapes) == 3
    alone = FakeTrainer(ROWS).evaluate()
    assert {k: v for k, v in metrics.items() if k != "eval_seconds"} == {
        k: v for k, v in alone.items() if k != "eval_seconds"
    }


def test_a_process_without_rows_adds_nothing():
    tables = []
    idle = FakeTrainer(ROWS[:1], 1, tables)

    idle.evaluate()

    assert tables[0].tolist() == [[0.0, 0.0]]


@pytest.fixture(scope="module")
def trainer(tiny_base, tmp_path_factory):
    return make_trainer(tiny_base, tmp_path_factory.mktemp("run"))


def trainers_own_loss(trainer, rows):
    """The loss of the rows as the trainer computes it for a batch in training."""
    batch = trainer.data_collator([{k: row[k] for k in ("input_ids", "labels")} for row in rows])
    trainer.model.eval()
    with torch.no_grad():
        return trainer.compute_loss(trainer.model, batch).item()


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_losses_are_those_of_the_trainer_whatever_the_batches(trainer, batch_size):
    rows = list(trainer.eval_dataset)
    by_style = {s: [row for row in rows if row["style"] == s] for s in ("terse", "verbose")}

    losses = measure_losses(trainer.model, rows, batch_size)

    assert losses.overall.mean == pytest.approx(trainers_own_loss(trainer, rows), abs=1e-5)
    for style, own in by_style.items():
        expected = trainers_own_loss(trainer, own)
        assert losses.by_style[style].mean == pytest.approx(expected, abs=1e-5)
    assert losses.by_style["terse"].tokens < losses.by_style["verbose"].tokens


@pytest.mark.slow
def test_the_losses_are_those_of_the_full_logits(trainer):
    row = trainer.eval_dataset[1]
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(input_ids=ids).logits.float()
    expected = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=-100)

    losses = measure_losses(trainer.model, [row], 1)

    assert losses.overall.mean == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [True, False])
def test_the_model_is_left_as_it_was_and_nothing_is_random(trainer, mode):
    trainer.model.train(mode)
    random_state = torch.random.get_rng_state()

    first = measure_losses(trainer.model, list(trainer.eval_dataset), 3)
    second = measure_losses(trainer.model, list(trainer.eval_dataset), 3)

    assert first == second  # dropout would tell them apart
    assert trainer.model.training is mode
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


@pytest.mark.slow
def test_rows_of_no_known_style_count_in_the_loss_over_all(trainer):
    rows = [{k: row[k] for k in ("input_ids", "labels")} for row in trainer.eval_dataset]

    metrics = measure_losses(trainer.model, rows, 3).metrics()

    assert metrics["eval_loss"] == pytest.approx(trainers_own_loss(trainer, rows), abs=1e-5)
    assert set(metrics) == {"eval_loss", "eval_perplexity"}


@pytest.mark.slow
def test_the_trainer_evaluates_logs_and_tells_its_callbacks(trainer):
    told = []
    trainer.callback_handler.on_evaluate = lambda args, state, control, metrics: (
        told.append(metrics) or control
    )

    metrics = trainer.evaluate()

    assert {"eval_loss", "eval_loss/terse", "eval_loss/verbose", "eval_seconds"} <= set(metrics)
    assert told == [metrics]
    assert trainer.state.log_history[-1]["eval_loss"] == metrics["eval_loss"]
    expected = trainers_own_loss(trainer, list(trainer.eval_dataset))
    assert metrics["eval_loss"] == pytest.approx(expected, abs=1e-5)
