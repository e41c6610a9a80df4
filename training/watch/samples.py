"""Answers of the model in training, so that people see what the losses mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from adapters.prompts import Message, PromptFormat
from adapters.styles import Style
from training.watch.entries import Sample, SamplesEntry

MAX_NEW_TOKENS = 64

Conversation = Sequence[Message]
"""Turns up to the user's last one."""


class StyleSamples(TrainerCallback):  # type: ignore[misc]
    """Answers the same questions in every style at each evaluation."""

    def __init__(
        self,
        prompt: PromptFormat,
        questions: Sequence[Conversation],
        styles: Sequence[Style],
        record: Callable[[SamplesEntry], None],
    ) -> None:
        """`questions` must not be empty; `record` is given the answers."""
        assert questions
        self._prompt = prompt
        self._questions = questions
        self._styles = styles
        self._record = record
        self._answered_at: int | None = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Answer, in the main process only; the others wait where they meet it next."""
        again = state.global_step == self._answered_at  # evaluated once more when all is done
        if state.is_world_process_zero and not again:
            self._answered_at = state.global_step
            samples = answer(model, self._prompt, self._questions, self._styles)
            self._record(SamplesEntry(state.global_step, samples))


def answer(
    model: Any,
    prompt: PromptFormat,
    questions: Sequence[Conversation],
    styles: Sequence[Style],
) -> tuple[Sample, ...]:
    """The likeliest answers, at most 64 tokens each, without any preset.

    No control token but end-of-text can come out, as when the adapter is served.
    """
    asked = [(question, style) for question in questions for style in styles]
    rows = [prompt.encode_prompt(question, style.token) for question, style in asked]
    width = max(len(row) for row in rows)
    with _answering(model):
        ids = torch.tensor([[prompt.eos_id] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=_generation_config(prompt, _num_rows(model)),
        )
    answers = output[:, width:].tolist()
    return tuple(
        _sample(question, style, ids, prompt)
        for (question, style), ids in zip(asked, answers, strict=True)
    )


def _sample(question: Conversation, style: Style, ids: list[int], prompt: PromptFormat) -> Sample:
    ended = prompt.eos_id in ids
    ids = ids[: ids.index(prompt.eos_id)] if ended else ids
    return Sample(question[-1].content, style.name, prompt.decode(ids), len(ids), ended)


def _generation_config(prompt: PromptFormat, num_rows: int) -> GenerationConfig:
    unused = set(range(prompt.num_tokens, num_rows))
    suppressed = sorted((prompt.control_ids | unused) - {prompt.eos_id})
    return GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        use_cache=True,
        eos_token_id=prompt.eos_id,
        pad_token_id=prompt.eos_id,
        suppress_tokens=suppressed or None,
    )


def _num_rows(model: Any) -> int:
    return int(model.get_output_embeddings().weight.shape[0])


@contextmanager
def _answering(model: Any) -> Iterator[None]:
    """The model as it answers, and afterwards as it was; checkpointing rests in eval mode."""
    was_training, use_cache = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        with torch.no_grad():
            yield
    finally:
        model.config.use_cache = use_cache
        model.train(was_training)
