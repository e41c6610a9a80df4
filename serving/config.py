"""Settings of the server, read from the environment in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

PROJECT_FOLDER = Path(__file__).parent.parent

Device = Literal["auto", "cuda", "mps", "cpu"]
Quantization = Literal["nf4", "none"]
Weights = Literal["auto", "nf4", "bf16"]
Dtype = Literal["auto", "float16", "bfloat16", "float32"]


@dataclass(frozen=True)
class EngineConfig:
    """Settings of the engine; every field can be set as `LACONIC_<FIELD>` in the environment."""

    adapter: Path = PROJECT_FOLDER / "adapters" / "store" / "pocket"
    """Folder of a trained adapter."""
    base_model: str = ""
    """Folder or hub id of the base model; empty for the one the adapter was trained on."""
    device: Device = "auto"
    """Where the model runs; `auto` takes a CUDA device if there is one."""
    quantization: Quantization = "nf4"
    """`nf4` loads the base in 4-bit, `none` at the precision of the device."""
    weights: Weights = "auto"
    """How 4-bit weights are kept: `nf4` as they are, with LoRA beside them; `bf16` expanded once to
    16 bits, with LoRA merged: four times the memory, faster. `auto` is nf4."""
    dtype: Dtype = "auto"
    """What products are computed in. `auto` is float32 on a CPU; on a GPU float16 for Mistral and
    Llama, whose numbers fit it and come out several times more exact, bfloat16 for others."""
    presets: Path | None = None
    """JSON file of preset values that replace the adapter's: `{"terse": {"top_p": 1}}`."""
    max_prompt_tokens: int = 1024
    """Longest prompt accepted, scaffold included."""
    max_new_tokens: int = 512
    """Most tokens a request may ask for."""
    max_batch_size: int = 64
    """Most requests that are answered together."""
    prompt_tokens_per_step: int | None = None
    """Prompt tokens read between two tokens of those that are being answered; by default 2048 on a
    GPU and 256 on a CPU."""
    kv_cache_gb: float | None = None
    """Memory for keys and values; by default what `max_batch_size` requests of full length need,
    as far as it is free."""
    queue_size: int = 64
    """Requests that may wait; one more is refused at once."""
    request_timeout_seconds: float = 120.0
    """A request not finished by then is given up."""
    stall_seconds: float = 60.0
    """A step that takes longer makes `/health` answer 503."""

    def __post_init__(self) -> None:
        """Refuse values that make no sense, all at once."""
        if problems := list(self._problems()):
            raise ValueError("; ".join(problems))

    @property
    def max_length(self) -> int:
        """Tokens of the longest prompt with the longest answer."""
        return self.max_prompt_tokens + self.max_new_tokens

    def _problems(self) -> Iterator[str]:
        for name in _POSITIVE:
            if getattr(self, name) is None:
                continue
            if not getattr(self, name) > 0:
                yield f"{name} must be above 0, not {getattr(self, name)}"
            elif getattr(self, name) == math.inf:
                yield f"{name} must be finite"
        for name, choices in (
            ("device", Device),
            ("quantization", Quantization),
            ("weights", Weights),
            ("dtype", Dtype),
        ):
            if getattr(self, name) not in get_args(choices):
                known = ", ".join(get_args(choices))
                yield f"{name} must be one of {known}, not {getattr(self, name)!r}"


_POSITIVE = (
    "max_prompt_tokens",
    "max_new_tokens",
    "max_batch_size",
    "prompt_tokens_per_step",
    "kv_cache_gb",
    "queue_size",
    "request_timeout_seconds",
    "stall_seconds",
)
