"""Stand-ins that need torch, which the fakes of the web tests must not."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from transformers import MistralConfig


class ScriptedModel:
    """A causal language model that says what it was told to: row by row, step by step.

    After the last token of its script a row repeats that token. `num_steps` counts the calls, and
    `positions` keeps the position ids [rows, length] of each.
    """

    device = torch.device("cpu")
    config = MistralConfig(num_hidden_layers=1)

    def __init__(self, *scripts: Sequence[int], vocabulary: int = 32) -> None:
        self.scripts = scripts
        self.vocabulary = vocabulary
        self.num_steps = 0
        self.positions: list[list[list[int]]] = []

    def __call__(
        self, input_ids: torch.Tensor, position_ids: torch.Tensor, **_: Any
    ) -> SimpleNamespace:
        """Logits [rows, 1, vocabulary]."""
        assert len(input_ids) == len(self.scripts)
        self.positions.append(position_ids.tolist())
        logits = torch.zeros(len(self.scripts), 1, self.vocabulary)
        for row, script in enumerate(self.scripts):
            logits[row, 0, script[min(self.num_steps, len(script) - 1)]] = 100.0
        self.num_steps += 1
        return SimpleNamespace(logits=logits)


class Gate:
    """Holds a model back until it is opened; a forward pre-hook.

    `steps` keeps the ids [rows, length] of every step that reached the model.
    """

    def __init__(self) -> None:
        self.steps: list[list[list[int]]] = []
        self.reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Let the model go on as soon as the gate is open."""
        self.steps.append(kwargs["input_ids"].tolist())
        self.reached.set()
        assert self._opened.wait(20), "nobody opened the gate"

    def open(self) -> None:
        """Hold nothing back any more."""
        self._opened.set()

    @property
    def batch_sizes(self) -> list[int]:
        """Rows of every batch, told by the prompts: later steps are one token wide."""
        return [len(ids) for ids in self.steps if len(ids[0]) > 1]


class Poison:
    """Makes a model fail on every batch with that token in a prompt; a forward pre-hook."""

    def __init__(self, token_id: int) -> None:
        self.token_id = token_id

    def __call__(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        """Fail, or do nothing."""
        if self.token_id in kwargs["input_ids"].flatten().tolist():
            raise RuntimeError("poisoned")


class EagerToStop:
    """Makes end-of-text by far the likeliest token at every step; a forward hook."""

    def __init__(self, eos_id: int) -> None:
        self.eos_id = eos_id

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        """Change the logits in place."""
        output.logits[..., self.eos_id] = 1000.0
