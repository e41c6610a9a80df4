"""How to choose the tokens of one answer; free of torch."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from adapters.styles import Preset


def _any_seed() -> int:
    return secrets.randbits(63)


@dataclass(frozen=True)
class SamplingParams:
    """Settings of one row; see `adapters.styles.Preset` for those of a style."""

    temperature: float = 0.0
    """0 takes the most likely token at every step."""
    top_p: float = 1.0
    top_k: int = 0
    """Sample from that many of the most likely tokens; 0 for all of them."""
    min_new_tokens: int = 0
    """Neither end-of-text nor a stop string ends the answer before; at least one token comes."""
    max_new_tokens: int = 512
    """0 reads the prompt and generates nothing."""
    seed: int = field(default_factory=_any_seed)
    """The same seed gives the same random numbers, whoever else is being answered."""
    stop: tuple[str, ...] = ()
    """The answer ends in front of any of these texts."""
    suppressed_ids: tuple[int, ...] = ()
    """Never generated, beside what the model suppresses for everybody."""
    logprobs: int | None = None
    """How many of the likeliest tokens to report beside each token; None for no report at all."""

    @classmethod
    def from_preset(
        cls,
        preset: Preset,
        *,
        seed: int | None = None,
        top_k: int = 0,
        stop: tuple[str, ...] = (),
    ) -> SamplingParams:
        """The settings of a style's preset; without a seed, one of its own."""
        return cls(
            temperature=0.0 if preset.greedy else preset.temperature,
            top_p=preset.top_p,
            top_k=top_k,
            min_new_tokens=preset.min_new_tokens,
            max_new_tokens=preset.max_new_tokens,
            seed=_any_seed() if seed is None else seed,
            stop=stop,
        )
