"""The trainer of a run: one of TRL's, that survives, evaluates by style and can follow the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from peft import PeftModel
from transformers import AutoTokenizer, PrinterCallback, Trainer
from trl import SFTTrainer

from training.activations import CheckpointFirstLayers
from training.arguments import make_arguments
from training.budget import BudgetCallback, TimeBudget, follow_time
from training.config import TrainConfig
from training.lean.model import make_lean
from training.lean.steps import ShortSteps
from training.material import Material
from training.model import cast_trained
from training.parallel.processes import Process
from training.parallel.shares import EveryRowOnce, with_blank
from training.preference import LabelTrainer, PairTrainer, check_reference, copy_to_reference
from training.resources.plan import Plan, Room, row_lengths, with_known_batches
from training.survival.run_folder import RunFolder
from training.survival.safe_trainer import CrashSafe
from training.watch.evaluation import StyleEvaluation
from training.watch.run_watch import RunWatch

_LOOK_AHEAD_EPOCHS = 10
"""Later epochs hold no larger micro-batches than all of these, or hardly ever."""
_CLOSING_SPEED = 2.0
"""Rows that are only measured, in the time of one that is learned."""


class StyleTrainer(StyleEvaluation, EveryRowOnce, CrashSafe, ShortSteps, SFTTrainer):  # type: ignore[misc]
    """Supervised fine-tuning on ids."""


class SafePairTrainer(CrashSafe, ShortSteps, PairTrainer):
    """DPO."""


class SafeLabelTrainer(CrashSafe, ShortSteps, LabelTrainer):
    """KTO."""


_TRAINERS = {"sft": StyleTrainer, "dpo": SafePairTrainer, "kto": SafeLabelTrainer}


@dataclass(frozen=True)
class Surroundings:
    """What a trainer works in."""

    process: Process
    run: RunFolder | None
    """The folder of the run; None in all processes but the first."""
    watch: RunWatch
    budget: TimeBudget | None
    """The time there is, if it is limited."""
    room: Room
    """What the plan has to fit into."""


def make_trainer(
    config: TrainConfig,
    material: Material,
    model: PeftModel,
    around: Surroundings,
    plan: Plan,
) -> tuple[Any, Plan]:
    """A trainer that is ready for `train()`, and the plan as it turned out for its rows.

    Args:
        config: settings of the run.
        material: what it learns.
        model: from `training.model.load_trainable`.
        around: where it works.
        plan: for the worst micro-batch that could come together.

    Raises:
        ReferenceError: DPO or KTO would compare with something else than where they start.
    """
    rows = material.examples.train
    if config.method == "kto":  # whose rows are paired in the order that they are given in
        rows = rows.shuffle(seed=config.seed)
    if config.method == "sft" and around.process.count > 1:
        rows = with_blank(rows)
    timekeeper = None
    if around.budget is not None:
        closing = len(material.examples.heldout) / config.effective_batch_size / _CLOSING_SPEED
        timekeeper = BudgetCallback(around.budget, closing_steps=closing)
    datasets.disable_progress_bars()  # of work that takes a second
    trainer: Any = _TRAINERS[config.method](
        model=model,
        args=make_arguments(
            config,
            model.device,
            micro_batch_size=plan.micro_batch_size,
            processes=around.process.count,
        ),
        train_dataset=rows,
        eval_dataset=material.examples.heldout if len(material.examples.heldout) else None,
        processing_class=AutoTokenizer.from_pretrained(material.folder),
        callbacks=[
            *([] if timekeeper is None else [timekeeper]),
            *around.watch.callbacks(
                material.prompt, [row.messages for row in material.examples.heldout_rows]
            ),
        ],
        run=around.run,
    )
    make_lean(trainer.model, rows_end_to_end=not config.pads_rows)
    trainer.remove_callback(PrinterCallback)  # would print a dictionary through the bar
    # TRL rounds what is trained to bfloat16.
    cast_trained(trainer.model, torch.float32)
    if timekeeper is not None:
        _follow(trainer, config, timekeeper)
    if config.method != "sft":
        copy_to_reference(trainer.model)
        check_reference(trainer)
    lengths = row_lengths(rows.to_dict(), config.method)
    tokens = largest_micro_batch(trainer, lengths, padded=config.pads_rows)
    plan = with_known_batches(plan, around.room, config, tokens)
    trainer.add_callback(CheckpointFirstLayers(plan.checkpointed_layers, plan.checkpointed_mlps))
    return trainer, plan


def largest_micro_batch(trainer: Trainer, lengths: Sequence[int], *, padded: bool) -> int:
    """Tokens of the largest micro-batch that training will come to, padding included.

    `lengths` are those of the rows that the trainer was given, one by one.
    """
    loader = trainer.get_train_dataloader()
    largest = 0
    for epoch in range(math.ceil(min(trainer.args.num_train_epochs, _LOOK_AHEAD_EPOCHS))):
        loader.set_epoch(epoch)
        for rows in loader.batch_sampler:
            found = [lengths[row] for row in rows]
            largest = max(largest, len(found) * max(found) if padded else sum(found))
    return largest


def _follow(trainer: Trainer, config: TrainConfig, timekeeper: BudgetCallback) -> None:
    optimizer = trainer.create_optimizer()
    trainer.lr_scheduler = follow_time(
        config.lr_scheduler, optimizer, config.warmup_fraction, lambda: timekeeper.progress
    )
