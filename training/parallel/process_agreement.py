"""What the processes of one training tell each other; alone, a process talks to itself."""

from __future__ import annotations

from typing import TypeVar

import torch

Value = TypeVar("Value")


def from_first(value: str | None) -> str | None:
    """What the first process passes in, in every process."""
    if not _together():
        return value
    told = [value]
    torch.distributed.broadcast_object_list(told)
    return told[0]


def everyones(value: Value) -> list[Value]:
    """What each process passes in, in every process."""
    values = [value]
    if _together():
        values *= torch.distributed.get_world_size()
        torch.distributed.all_gather_object(values, value)
    return values


def raise_together(problem: str | None) -> None:
    """Raise OSError in every process if one of them has a problem."""
    if told := [text for text in everyones(problem) if text is not None]:
        raise OSError("; ".join(told))


def largest(values: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum over all processes."""
    if _together():
        torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return values


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
