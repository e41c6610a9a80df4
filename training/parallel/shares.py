"""Deals the rows of a step to several processes: each row once, as one process would have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets import Dataset, concatenate_datasets
from torch.utils.data import BatchSampler, Sampler


class Turns(BatchSampler):
    """The micro-batches of one of several processes, which take them in turn.

    Where the last ones do not go round, the rest of the processes get the blank row.
    """

    def __init__(self, batches: BatchSampler, *, blank: int, rank: int, count: int) -> None:
        """`batches` are those of all processes together; `blank` is the number of a row."""
        self.sampler, self.batch_size = batches.sampler, batches.batch_size
        self.drop_last = False
        self._batches = batches
        self._blank = blank
        self._rank, self._count = rank, count

    def __len__(self) -> int:
        """Alike in all processes: none may wait for gradients that another never sends."""
        return -(-len(self._batches) // self._count)

    def __iter__(self) -> Iterator[list[int]]:
        """Micro-batches as numbers of rows."""
        turn = self._count - 1
        for index, batch in enumerate(self._batches):
            turn = index % self._count
            if turn == self._rank:
                yield batch
        if turn < self._rank:
            yield [self._blank]


class EveryRowOnce:
    """Mixed in before TRL's SFT trainer, which is given rows `with_blank`.

    accelerate would hand out rows a second time to those processes that the last micro-batches do
    not reach, and learn them twice. A loss over all learned tokens of a step does not notice a row
    without any.
    """

    def get_train_dataloader(self) -> Any:
        """The loader of this process."""
        trainer: Any = self
        loader = super().get_train_dataloader()  # type: ignore[misc]
        if trainer.args.world_size > 1:
            shard = loader.batch_sampler
            shard.batch_sampler = Turns(
                shard.batch_sampler,
                blank=len(trainer.train_dataset) - 1,
                rank=trainer.args.process_index,
                count=trainer.args.world_size,
            )
            # they are dealt already: nothing to share, to repeat, or to drop as a repetition
            shard.num_processes, shard.process_index, shard.even_batches = 1, 0, False
            loader._drop_last = True
        return loader

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int] | None:
        trainer: Any = self
        rows = trainer.train_dataset if train_dataset is None else train_dataset
        if trainer.args.world_size > 1:
            rows = rows.select(range(len(rows) - 1))
        sampler: Sampler[int] | None = super()._get_train_sampler(rows)  # type: ignore[misc]
        return sampler

    def _rows_of_step(self) -> list[int]:
        trainer: Any = self
        rows: list[int] = super()._rows_of_step()  # type: ignore[misc]
        if trainer.args.world_size == 1:
            return rows
        return [row for row in rows if row < len(trainer.train_dataset)]  # all but the blank one


def with_blank(rows: Dataset) -> Dataset:
    """The rows, and behind them one of which nothing is learned."""
    first = rows[0]
    blank = {**first, "input_ids": first["input_ids"][:2], "completion_mask": [0, 0]}
    return concatenate_datasets([rows, Dataset.from_list([blank], features=rows.features)])
