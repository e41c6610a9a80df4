"""Which of the processes of a run this one is; `torchrun` starts one for each GPU."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Process:
    """One of `count` processes, each with a GPU of its own."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Process:
        """This one, as `torchrun` tells it; its GPU becomes the current one."""
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        if torch.cuda.is_available() and local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and tells."""
        return self.rank == 0

    def leave(self) -> None:
        """Let the others go: what is left to do is done by the first one alone."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
