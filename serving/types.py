"""What goes into an engine and what comes out, free of torch and of HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from adapters.prompts import Message
from adapters.styles import Style

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class GenerationRequest:
    """A conversation to answer; None leaves a setting to the style's preset."""

    messages: tuple[Message, ...]
    style: str | None = None
    """Name of a style of the adapter; None for its default."""
    temperature: float | None = None
    top_p: float | None = None
    min_new_tokens: int | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    """Makes a sampled answer repeatable."""


@dataclass(frozen=True)
class Completion:
    """A finished answer."""

    text: str
    style: str
    num_prompt_tokens: int
    num_tokens: int
    """Generated tokens, the end-of-text token not counted."""
    finish_reason: FinishReason
    """`stop` if the model ended the answer, `length` if the limit did."""
    seconds: float
    """From acceptance to the last token, waiting included."""


@dataclass(frozen=True)
class EngineStatus:
    """A snapshot of an engine, made without waiting for it."""

    state: Literal["loading", "ready", "failed", "stopped"]
    detail: str
    """Why the state is not `ready`; empty if it is."""
    model: str
    adapter: str
    adapter_version: str
    quantization: str
    device: str
    gpu_memory_gb: float
    """Memory the process holds on the GPU; 0 on the CPU."""
    num_running: int
    num_waiting: int
    queue_size: int
    """Requests that may wait before the next one is refused."""
    default_style: str
    styles: tuple[Style, ...] = field(default=())


class Engine(Protocol):
    """Answers requests; safe to call from many threads."""

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request, waiting for it.

        Raises:
            ServingError: one of its subclasses, as `serving.errors` describes them.
        """
        ...

    def status(self) -> EngineStatus:
        """A snapshot, without waiting."""
        ...
