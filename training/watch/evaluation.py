"""Losses on held-out rows, per style and over all of them, as the trainer itself defines a loss."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from training.watch.entries import EvaluationEntry

_IGNORED = -100
"""Label of a token that is not learned."""
_STYLE_MARK = "/"
"""Stands between a measure and a style in the trainer's metrics: `eval_loss/terse`."""


@dataclass(frozen=True)
class TokenLosses:
    """Losses of single rows, added up."""

    loss: float = 0.0
    """Sum over the learned tokens."""
    tokens: int = 0

    def __add__(self, other: TokenLosses) -> TokenLosses:
        return TokenLosses(self.loss + other.loss, self.tokens + other.tokens)

    @property
    def mean(self) -> float:
        """Loss per learned token; NaN without any."""
        return self.loss / self.tokens if self.tokens else math.nan


@dataclass(frozen=True)
class StyleLosses:
    """Losses of the rows of each style."""

    by_style: dict[str, TokenLosses] = field(default_factory=dict)

    @property
    def overall(self) -> TokenLosses:
        """Every learned token counts alike, whatever its style."""
        return sum(self.by_style.values(), TokenLosses())

    def metrics(self, prefix: str = "eval") -> dict[str, float]:
        """Named as a trainer names them; `eval_loss` is the one number to compare runs by."""
        metrics = {}
        for style, losses in (("", self.overall), *self.by_style.items()):
            mark = f"{_STYLE_MARK}{style}" if style else ""
            metrics[f"{prefix}_loss{mark}"] = losses.mean
            metrics[f"{prefix}_perplexity{mark}"] = perplexity(losses.mean)
        return metrics


def perplexity(loss: float) -> float:
    """Exponential of the loss; infinity for a loss that has left all bounds."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def to_entry(metrics: dict[str, float], step: int, total_steps: int | None) -> EvaluationEntry:
    """What a trainer's evaluation metrics say; it may know of no styles or perplexity."""
    given = metrics.get("eval_perplexity")
    return EvaluationEntry(
        step=step,
        total_steps=total_steps,
        epoch=metrics.get("epoch"),
        heldout_loss=float(metrics["eval_loss"]),
        heldout_perplexity=None if given is None else float(given),
        heldout_loss_by_style=_by_style(metrics, "eval_loss"),
        heldout_perplexity_by_style=_by_style(metrics, "eval_perplexity"),
    )


@torch.no_grad()
def measure_losses(model: Any, examples: Sequence[dict[str, Any]], batch_size: int) -> StyleLosses:
    """The loss of every example under a model that TRL has given its fused head, in eval mode.

    Args:
        model: as the trainer holds it; its train or eval mode is what it was afterwards.
        examples: each with `input_ids`, `labels` (-100 is not learned) and, if known, `style`.
        batch_size: rows in one forward pass.
    """
    was_training = model.training
    model.eval()
    try:
        # Rows of a length together: little padding, and the losses do not depend on the order.
        ordered = sorted(examples, key=lambda example: len(example["input_ids"]))
        sums: list[Tensor] = []
        for batch in _batches(ordered, batch_size):
            inputs = _pad(batch, model.device)
            log_probs = model(**inputs, use_cache=False, fused_lm_head=True).log_probs
            sums.append(-log_probs.float().sum(dim=1))  # 0 where nothing is learned
        losses = torch.cat(sums).tolist() if sums else []  # the only wait for the device
    finally:
        model.train(was_training)
    by_style: dict[str, TokenLosses] = {}
    for example, loss in zip(ordered, losses, strict=True):
        # The first token is never learned: nothing stands before it.
        tokens = sum(label != _IGNORED for label in example["labels"][1:])
        style = example.get("style", "")
        by_style[style] = by_style.get(style, TokenLosses()) + TokenLosses(loss, tokens)
    return StyleLosses(dict(sorted(by_style.items())))


class StyleEvaluation:
    """Mixed in before a trainer of TRL: it evaluates per style, exactly, and with one wait.

    transformers averages over batches instead, so that a token in a batch of short answers counts
    more than one in a batch of long ones.
    """

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Measure, log and tell the callbacks; the metrics are those of `StyleLosses`.

        Every process of a distributed run measures its share of the rows.
        """
        trainer: Any = self
        began = time.monotonic()
        examples = trainer.eval_dataset if eval_dataset is None else eval_dataset
        share = list(examples)[trainer.args.process_index :: trainer.args.world_size]
        names = sorted(set(examples["style"])) if "style" in examples.column_names else [""]
        was_training = trainer.model.training
        trainer.model.eval()  # the trainer's log asks for the mode
        try:
            with trainer.accelerator.autocast():
                losses = measure_losses(
                    trainer.model, share, trainer.args.per_device_eval_batch_size
                )
            metrics = _over_processes(losses, names, trainer.accelerator).metrics(metric_key_prefix)
            metrics[f"{metric_key_prefix}_seconds"] = time.monotonic() - began
            trainer.log(metrics)
            trainer.control = trainer.callback_handler.on_evaluate(
                trainer.args, trainer.state, trainer.control, metrics
            )
        finally:
            trainer.model.train(was_training)
        return metrics


def _over_processes(losses: StyleLosses, names: Sequence[str], accelerator: Any) -> StyleLosses:
    if accelerator.num_processes == 1:
        return losses
    own = [losses.by_style.get(name, TokenLosses()) for name in names]
    table = torch.tensor([[each.loss, each.tokens] for each in own], device=accelerator.device)
    rows = accelerator.reduce(table, "sum").tolist()
    return StyleLosses(
        {name: TokenLosses(row[0], int(row[1])) for name, row in zip(names, rows, strict=True)}
    )


def _batches(
    examples: Sequence[dict[str, Any]], batch_size: int
) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(examples), batch_size):
        yield examples[start : start + batch_size]


def _pad(examples: Iterable[dict[str, Any]], device: torch.device) -> dict[str, Tensor]:
    """Tensors [rows, longest]; the padding stands behind and is not learned."""
    ids = [torch.tensor(example["input_ids"]) for example in examples]
    labels = [torch.tensor(example["labels"]) for example in examples]
    pad = torch.nn.utils.rnn.pad_sequence
    inputs = {
        "input_ids": pad(ids, batch_first=True),
        "attention_mask": pad([torch.ones_like(row) for row in ids], batch_first=True),
        "labels": pad(labels, batch_first=True, padding_value=_IGNORED),
    }
    return {name: tensor.to(device) for name, tensor in inputs.items()}


def _by_style(metrics: dict[str, float], name: str) -> dict[str, float]:
    start = f"{name}{_STYLE_MARK}"
    return {
        key.removeprefix(start): float(value)
        for key, value in metrics.items()
        if key.startswith(start)
    }
