"""Several processes are dealt the rows of one, each row once."""

from types import SimpleNamespace

import pytest
from datasets import Dataset
from torch.utils.data import BatchSampler, SequentialSampler

from training.parallel.shares import EveryRowOnce, Turns, with_blank


def deal(num_rows, micro_batch_size, count):
    batches = BatchSampler(SequentialSampler(range(num_rows)), micro_batch_size, drop_last=False)
    return [Turns(batches, blank=num_rows, rank=rank, count=count) for rank in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("num_rows", [1, 2, 5, 6, 7, 8, 17])
def test_every_row_is_dealt_once_and_every_process_has_as_many_batches(num_rows, count):
    shares = deal(num_rows, 2, count)

    dealt = [list(share) for share in shares]

    rows = [row for share in dealt for batch in share for row in batch if row != num_rows]
    assert sorted(rows) == list(range(num_rows))
    assert {len(share) for share in dealt} == {len(shares[0])}


def test_a_step_of_all_has_the_rows_that_one_process_would_have():
    first, second = (list(share) for share in deal(11, 2, 2))

    assert first == [[0, 1], [4, 5], [8, 9]]
    assert second == [[2, 3], [6, 7], [10]]


def test_a_process_that_the_last_rows_do_not_reach_gets_the_blank_row():
    first, second, third = (list(share) for share in deal(7, 2, 3))

    assert [first[-1], second[-1], third[-1]] == [[6], [7], [7]]


def test_nothing_is_learned_of_the_blank_row():
    rows = Dataset.from_dict(
        {"input_ids": [[1, 5, 6, 2]], "completion_mask": [[0, 0, 1, 1]], "style": ["terse"]}
    )

    row, blank = with_blank(rows)

    assert row["completion_mask"] == [0, 0, 1, 1]
    assert blank == {"input_ids": [1, 5], "completion_mask": [0, 0], "style": "terse"}


class Told:
    """Rows of a step as the trainer counts them, from 1."""

    def _rows_of_step(self):
        return [16, 17, 18]


class Several(EveryRowOnce, Told):
    def __init__(self, world_size, num_rows):
        self.args = SimpleNamespace(world_size=world_size)
        self.train_dataset = range(num_rows)


@pytest.mark.parametrize(("world_size", "rows"), [(1, [16, 17, 18]), (2, [16, 17])])
def test_the_blank_row_is_none_that_people_are_told_of(world_size, rows):
    assert Several(world_size, 18)._rows_of_step() == rows
