"""Preference methods: DPO from pairs and KTO from labelled answers, each from a finished adapter.

Both hold the trained adapter against a frozen copy of where it started, the reference.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from trl import DPOTrainer, KTOTrainer

_REFERENCE = "ref"
_TRAINED = "default"
_SAME = 1e-4
"""The first loss may differ by rounding only."""


class ReferenceError(ValueError):
    """The reference is not what training starts from, so that no loss would mean anything."""


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """TRL's DPO trainer on rows that are ids already: prompt_ids, chosen_ids, rejected_ids."""

    first_loss = math.log(2)
    """Of a policy that equals its reference."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class LabelTrainer(KTOTrainer):  # type: ignore[misc]
    """TRL's KTO trainer on rows that are ids already: prompt_ids, completion_ids, label."""

    first_loss = 0.5
    """Of a policy that equals its reference."""

    def _prepare_dataset(
        self, dataset: Dataset, processing_class: Any, args: Any, dataset_name: str
    ) -> Dataset:
        # The divergence is estimated from answers put to the wrong question: those of the same
        # micro-batch, moved on by one.
        return dataset.map(
            _move_answers_on, batched=True, batch_size=args.per_device_train_batch_size
        )


def copy_to_reference(model: PeftModel) -> None:
    """Make the reference adapter equal to the trained one, to the last bit.

    TRL copies LoRA pairs by a name that the rows of style tokens do not have, and rounds what is
    trained after copying.
    """
    parameters = dict(model.named_parameters())
    for name, trained in parameters.items():
        part, dot, last = name.rpartition(f".{_TRAINED}")
        if dot:
            reference = parameters.get(f"{part}.{_REFERENCE}{last}")
            if reference is not None:
                reference.data = trained.data.clone()


def check_reference(trainer: PairTrainer | LabelTrainer) -> float:
    """The loss of the first rows before any step, which a true reference makes known.

    Raises:
        ReferenceError: it is something else.
    """
    batch = next(iter(trainer.get_train_dataloader()))
    model = trainer.model
    was_training = model.training
    model.eval()  # without dropout both adapters compute the very same
    with torch.no_grad():
        loss, _, _ = trainer.prediction_step(model, batch, prediction_loss_only=True)
    model.train(was_training)
    trainer._metrics["eval"].clear()  # no evaluation, only a look
    if abs(float(loss) - trainer.first_loss) > _SAME:
        raise ReferenceError(
            f"the first loss is {loss:.4f} instead of {trainer.first_loss:.4f}: the reference is "
            "not the adapter that training starts from"
        )
    return float(loss)


def _move_answers_on(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    answers = rows["completion_ids"]
    return {**rows, "KL_completion_ids": [answers[-1], *answers[:-1]]}
