"""How much memory a run takes, without waiting for the device."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch


@dataclass(frozen=True)
class MemoryUse:
    """Memory in 10^9 bytes."""

    gb: float
    share: float
    """Of the budget, or of all there is."""


def measure_memory(device: torch.device, budget_gb: float = 0.0) -> MemoryUse:
    """Peak of the tensors on a CUDA device; what the process holds on other devices.

    Args:
        device: where the model is trained.
        budget_gb: GPU memory that the run may use; 0 for all. A computer's memory has no budget.
    """
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device)
        whole = torch.cuda.get_device_properties(device).total_memory
    elif device.type == "mps":
        used = torch.mps.driver_allocated_memory()
        whole = torch.mps.recommended_max_memory()
    else:
        used = psutil.Process().memory_info().rss
        whole = psutil.virtual_memory().total
        budget_gb = 0.0
    return MemoryUse(used / 1e9, used / (budget_gb * 1e9 if budget_gb > 0 else whole))
