import pytest
import torch

from training.shipping.logit_difference import answer_greedily, compare_logits

EOS, SUPPRESSED = 2, 5
SUCCESSORS = {0: 3, 3: 4, 4: 1, 1: EOS, EOS: EOS}


class TableModel:
    """Finds the token that a table names most likely, and a suppressed one even more so."""

    device = torch.device("cpu")

    def __init__(self, successors=SUCCESSORS, *, offset=0.0):
        self.successors, self.offset = successors, offset
        self.read = []
        self.released = 0

    def allocate_cache(self, num_tokens):
        self.num_tokens = num_tokens
        return num_tokens

    def release(self, start):
        assert start == 0
        self.released += 1

    def forward(self, step):
        assert step.ends.tolist() == [0, len(step.ids)]
        assert step.lengths.tolist() == [int(step.positions[-1]) + 1]
        assert step.positions.tolist() == step.slots.tolist()
        assert int(step.slots.max()) < self.num_tokens
        self.read.append((int(step.positions[0]), step.ids.tolist()))
        logits = torch.full((1, 6), 1.0) + self.offset
        logits[0, self.successors[int(step.ids[-1])]] = 3.0 + self.offset
        logits[0, SUPPRESSED] = 1000.0
        return logits


def answers_of(model, *prompts):
    return answer_greedily(model, prompts, [SUPPRESSED], EOS)


def test_an_answer_is_greedy_and_ends_with_its_end():
    model = TableModel()

    [answer] = answers_of(model, [1, 0])

    assert answer.ids == [3, 4, 1, EOS]
    assert answer.logits.shape == (4, 6)
    assert model.read == [(0, [1, 0]), (2, [3]), (3, [4]), (4, [1])]


def test_an_answer_without_an_end_is_cut():
    [answer] = answers_of(TableModel({0: 0}), [0])

    assert answer.ids == [0] * 16


def test_every_answer_starts_with_an_empty_cache():
    model = TableModel()

    answers_of(model, [1, 0], [4])

    assert [start for start, _ in model.read] == [0, 2, 3, 4, 0, 1]
    assert model.released == 2


def test_a_model_does_not_differ_from_itself():
    answers = answers_of(TableModel(), [1, 0], [4])

    difference = compare_logits(TableModel(), answers, [SUPPRESSED])

    assert (difference.num_prompts, difference.num_tokens) == (2, 6)
    assert (difference.max_abs, difference.mean_abs, difference.relative) == (0, 0, 0)
    assert difference.equal_argmax_share == 1


def test_both_models_read_the_same_tokens():
    first, second = TableModel(), TableModel(dict.fromkeys(SUCCESSORS, 0))

    compare_logits(second, answers_of(first, [1, 0], [4]), [SUPPRESSED])

    assert second.read == first.read
    assert second.released == 2


def test_differences_are_measured_over_what_can_be_generated():
    answers = answers_of(TableModel(), [1])

    difference = compare_logits(TableModel(offset=0.5), answers, [SUPPRESSED])

    assert (difference.max_abs, difference.mean_abs) == (0.5, 0.5)
    # five logits that count: 1, 1, 1, 1 and 3
    assert difference.relative == pytest.approx(0.5 / (7 / 5))
    assert difference.equal_argmax_share == 1


def test_another_most_likely_token_is_counted():
    answers = answers_of(TableModel(), [1, 0])
    other = TableModel({**SUCCESSORS, 3: 3})

    difference = compare_logits(other, answers, [SUPPRESSED])

    assert difference.equal_argmax_share == 0.75
    assert difference.max_abs == 2
    assert "same at 75.0%" in difference.describe()
