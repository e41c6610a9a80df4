"""How much memory the cache for keys and values gets; decided once, at the start."""

from __future__ import annotations

import psutil
import torch

from serving.config import EngineConfig
from serving.kv_cache import BLOCK_TOKENS
from serving.runner import StepModel

_KEPT_FREE = 0.1
"""Share of a GPU's free memory left to others."""
_WORKSPACE_BYTES = 1_500_000_000
"""Of a GPU, for what a step needs beside the cache: expanded weights, activations, graphs."""
_CPU_SHARE = 0.5
"""Share of a computer's free memory that the cache may take at most."""


def plan_cache_tokens(model: StepModel, config: EngineConfig) -> int:
    """Tokens of the cache: as many as full batches can use, if the memory is there.

    Raises:
        ValueError: not even the shortest request would fit.
    """
    if config.kv_cache_gb is not None:
        num_bytes = int(config.kv_cache_gb * 1e9)
    else:
        num_bytes = _free_bytes(model.device)
    whole = -(-config.max_length // BLOCK_TOKENS) * BLOCK_TOKENS
    tokens = min(config.max_batch_size * whole, num_bytes // model.cache_bytes_per_token)
    if tokens < 2 * BLOCK_TOKENS:
        raise ValueError(
            f"{num_bytes / 1e9:.3f} GB hold only {tokens} tokens of keys and values; "
            "free memory on the device or raise kv_cache_gb"
        )
    return tokens


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return max(0, int(free * (1 - _KEPT_FREE)) - _WORKSPACE_BYTES)
    return int(psutil.virtual_memory().available * _CPU_SHARE)
