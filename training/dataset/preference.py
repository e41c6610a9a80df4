"""Pairs of answers to the same prompt, one chosen and one rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.prompts import Message
from training.dataset.conversation import Conversation
from training.dataset.problems import Problems
from training.dataset.prompt_completion import read_answer, read_prompt

KEYS = ("prompt", "chosen", "rejected", "style")


def read_preference(row: Mapping[str, Any], line: int, problems: Problems) -> Conversation | None:
    """A row of texts or lists of messages; without a prompt, what both lists begin with is it."""
    prompt_value, chosen_value, rejected_value = (row.get(name) for name in KEYS[:3])
    if prompt_value is None and isinstance(chosen_value, list) and isinstance(rejected_value, list):
        prompt_value, chosen_value, rejected_value = _take_shared(chosen_value, rejected_value)
    elif isinstance(prompt_value, str):
        chosen_value, rejected_value = (
            _without_question(value, prompt_value) for value in (chosen_value, rejected_value)
        )
    prompt = read_prompt(prompt_value, "'prompt'", line, problems)
    chosen = read_answer(chosen_value, "'chosen'", line, problems)
    rejected = read_answer(rejected_value, "'rejected'", line, problems)
    if prompt is None or chosen is None or rejected is None:
        return None
    if chosen == rejected:
        text = "'chosen' and 'rejected' are the same, so that nothing tells them apart"
        problems.refuse(line, "contradiction", text)
        return None
    messages = (*prompt, Message("assistant", chosen))
    return Conversation(messages, row.get("style"), rejected=rejected)


def _take_shared(chosen: list[Any], rejected: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """The messages that both begin with, and what is left of each."""
    number = 0
    while number < min(len(chosen), len(rejected)) and chosen[number] == rejected[number]:
        number += 1
    return chosen[:number], chosen[number:], rejected[number:]


def _without_question(value: Any, question: str) -> Any:
    """Some data sets repeat the prompt as the first message of both answers."""
    if isinstance(value, list) and len(value) > 1 and isinstance(value[0], dict):
        said = value[0].get("content", value[0].get("value"))
        return value[1:] if said == question else value
    return value
