"""What goes into an engine and what comes out, free of torch and of HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from adapters.prompts import Message
from adapters.styles import Style

FinishReason = Literal["stop", "length"]
MOST_LOGPROBS = 20
"""Likeliest tokens that a request may want to know for every token."""


@dataclass(frozen=True)
class TokenLogprob:
    """A token and how likely it was to the model, given all tokens before it.

    It is the model's own opinion: log-softmax of its logits in float32, before temperature, top_p,
    top_k and the suppression of tokens change what is drawn from them.
    """

    token_id: int
    text: str
    """Read apart from its neighbours; see `serving.vocabulary` for tokens that are no text."""
    raw: bytes
    """Those of the text; of a token that is part of a character, its own."""
    logprob: float
    """Natural logarithm of the probability."""
    top: tuple[TokenLogprob, ...] = ()
    """The likeliest tokens in its place, the likeliest first; it may be among them."""


@dataclass(frozen=True)
class Output:
    """What a model generated for one prompt."""

    ids: list[int]
    """Without the end-of-text token."""
    text: str
    """Without white space around it, and without the stop string that ended it."""
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of `ids`, if they were asked for."""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """Of the prompt tokens that were to be scored."""


@dataclass(frozen=True)
class GenerationRequest:
    """A conversation to answer; None leaves a setting to the style's preset."""

    messages: tuple[Message, ...]
    style: str | None = None
    """Name of a style of the adapter; None for its default."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    """Sample from that many of the most likely tokens; 0 or None for all of them."""
    min_new_tokens: int | None = None
    max_new_tokens: int | None = None
    """0 only together with `prompt_logprobs`: the prompt is scored and nothing generated."""
    seed: int | None = None
    """Makes a sampled answer repeatable."""
    stop: tuple[str, ...] = ()
    """Texts in front of which the answer ends."""
    timeout_seconds: float | None = None
    """The request is given up after that time; never longer than the server's own limit."""
    logprobs: int | None = None
    """Report the log-probability of every generated token, and that many of the likeliest ones in
    its place, up to `MOST_LOGPROBS`; None for no report."""
    prompt_logprobs: bool = False
    """Report the same of every token of the last message's words."""


@dataclass(frozen=True)
class Completion:
    """A finished answer."""

    text: str
    style: str
    num_prompt_tokens: int
    num_tokens: int
    """Generated tokens, the end-of-text token not counted."""
    finish_reason: FinishReason
    """`stop` if the model or a stop string ended the answer, `length` if the limit did."""
    seconds: float
    """From acceptance to the last token, waiting included."""
    first_token_seconds: float
    """From acceptance to the first token; the whole time if there was none."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of every generated token, if asked for: also of white space around the text, and of the stop
    string that ended it."""
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    """Of every token of the last message's words, if asked for. What the chat template and the
    style put around them is read by the model, but not reported."""


@dataclass(frozen=True)
class EngineStatus:
    """A snapshot of an engine, made without waiting for it."""

    state: Literal["loading", "ready", "stalled", "failed", "dead", "stopped"]
    """`stalled`: a step takes suspiciously long; `dead`: the device is lost."""
    detail: str
    """Why the state is not `ready`; empty if it is."""
    model: str
    adapter: str
    adapter_version: str
    quantization: str
    device: str
    gpu_memory_gb: float
    """Memory the process holds on the GPU; 0 on the CPU."""
    seconds_since_step: float
    """Since the engine last gave a sign of life; it does several times a second."""
    kv_cache_tokens: int
    """Tokens that fit into the cache; 0 until it is there."""
    kv_cache_tokens_used: int
    """Of those, what requests hold."""
    num_running: int
    num_waiting: int
    queue_size: int
    """Requests that may wait before the next one is refused."""
    default_style: str
    styles: tuple[Style, ...] = field(default=())


class Handle(Protocol):
    """A request that is being answered; to be used by one thread at a time."""

    def __iter__(self) -> Iterator[str]:
        """Pieces of text as they come; all of them together are the completion's text.

        Raises:
            ServingError: the request failed; pieces may have come before.
        """
        ...

    def next_piece(self, timeout_seconds: float | None = None) -> str | None:
        """The next piece of text, or None once the answer is complete; None waits for ever.

        Raises:
            TimeoutError: nothing came in that time, which is no reason not to ask again.
            ServingError: the request failed.
        """
        ...

    def result(self) -> Completion:
        """Wait for the end; raises ServingError if the request failed."""
        ...

    def cancel(self) -> None:
        """Nobody wants the answer any more: its place is free within a step."""
        ...


class Engine(Protocol):
    """Answers requests; safe to call from many threads."""

    def submit(self, request: GenerationRequest, *, streams: bool = True) -> Handle:
        """Begin to answer; does not wait. Without `streams`, text comes only at the end.

        Raises:
            ServingError: the request is refused, as `serving.errors` describes.
        """
        ...

    def generate(self, request: GenerationRequest) -> Completion:
        """Answer one request, waiting for it.

        Raises:
            ServingError: one of its subclasses, as `serving.errors` describes them.
        """
        ...

    def status(self) -> EngineStatus:
        """A snapshot, without waiting."""
        ...
