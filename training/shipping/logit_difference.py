"""How far the logits of two models are apart where it counts: along the first one's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from serving.attention import StepInput
from serving.runner import StepModel

_ANSWER_TOKENS = 16


@dataclass(frozen=True)
class Answer:
    """A short greedy answer, and what a model thought on the way."""

    prompt_ids: list[int]
    ids: list[int]
    logits: Tensor
    """[answer tokens, vocabulary], float32 on the CPU, minus infinity for suppressed ids."""


@dataclass(frozen=True)
class LogitDifference:
    """Of all tokens that can be generated, at every token of a few answers."""

    num_prompts: int
    num_tokens: int
    max_abs: float
    mean_abs: float
    relative: float
    """`mean_abs` over the mean size of the first model's logits."""
    equal_argmax_share: float
    """Tokens at which both models find the same one most likely."""

    def describe(self) -> str:
        """One sentence for people, without its full stop."""
        return (
            f"over {self.num_tokens} answer tokens to {self.num_prompts} prompts the logits "
            f"differ by {self.mean_abs:.2g} on average ({self.relative:.2%} of their size) and "
            f"{self.max_abs:.2g} at most; the most likely token is the same at "
            f"{self.equal_argmax_share:.1%}"
        )


def answer_greedily(
    model: StepModel, prompts: Sequence[list[int]], suppressed_ids: Sequence[int], eos_id: int
) -> list[Answer]:
    """Answer every prompt with a few tokens, none of them suppressed, the last one maybe EOS."""
    reader = _Reader(model, suppressed_ids, max(map(len, prompts)))
    answers = []
    for prompt in prompts:
        ids: list[int] = []
        logits = [reader.read(prompt, 0)]
        while True:
            ids.append(int(logits[-1].argmax()))
            if ids[-1] == eos_id or len(ids) == _ANSWER_TOKENS:
                break
            logits.append(reader.read(ids[-1:], len(prompt) + len(ids) - 1))
        model.release(0)
        answers.append(Answer(prompt, ids, torch.stack(logits)))
    return answers


def compare_logits(
    model: StepModel, answers: Sequence[Answer], suppressed_ids: Sequence[int]
) -> LogitDifference:
    """Let another model write the same answers, and measure where it thinks otherwise."""
    reader = _Reader(model, suppressed_ids, max(len(answer.prompt_ids) for answer in answers))
    rows = []
    for answer in answers:
        rows.append(reader.read(answer.prompt_ids, 0))
        for number, token_id in enumerate(answer.ids[:-1], len(answer.prompt_ids)):
            rows.append(reader.read([token_id], number))
        model.release(0)
    found = torch.stack(rows)
    wanted = torch.cat([answer.logits for answer in answers])
    kept = wanted[0].isfinite()
    differences = (found - wanted)[:, kept].abs()
    return LogitDifference(
        num_prompts=len(answers),
        num_tokens=len(wanted),
        max_abs=float(differences.max()),
        mean_abs=float(differences.mean()),
        relative=float(differences.mean() / wanted[:, kept].abs().mean()),
        equal_argmax_share=float((found.argmax(1) == wanted.argmax(1)).float().mean()),
    )


class _Reader:
    """Reads one text at a time, at the beginning of the cache."""

    def __init__(self, model: StepModel, suppressed_ids: Sequence[int], longest: int) -> None:
        self._model, self._suppressed_ids = model, list(suppressed_ids)
        self._spare = model.allocate_cache(longest + _ANSWER_TOKENS)

    @torch.no_grad()
    def read(self, ids: list[int], start: int) -> Tensor:
        """Logits [vocabulary] behind `ids`, in front of which `start` tokens have been read."""
        step = _step(ids, start, self._spare, self._model.device)
        logits = self._model.forward(step)[0].float().cpu()
        logits[self._suppressed_ids] = -torch.inf
        return logits


def _step(ids: list[int], start: int, spare: int, device: torch.device) -> StepInput:
    """One row at the beginning of the cache, of which `start` tokens have been read."""
    positions = torch.arange(start, start + len(ids), device=device)
    return StepInput(
        ids=torch.tensor(ids, device=device),
        positions=positions,
        slots=positions,
        ends=torch.tensor([0, len(ids)], dtype=torch.int32, device=device),
        starts=torch.tensor([0, spare], dtype=torch.int32, device=device),
        lengths=torch.tensor([start + len(ids)], dtype=torch.int32, device=device),
        most_tokens=len(ids),
    )
