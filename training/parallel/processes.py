"""Which of the processes of a run this one is; `torchrun` starts one for each GPU."""

from __future__ import annotations

import atexit
import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from training.parallel.process_agreement import everyones

_PATIENCE = datetime.timedelta(minutes=30)
"""How long the others wait where they meet, while the first one writes or answers questions."""

_SHARDING = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
"""How `accelerate launch` tells that the model is to be cut into pieces."""


class ToldElsewhereError(SystemExit):
    """What ends this process is told by the first one."""

    def __init__(self) -> None:
        """The exit code is that of an input that cannot be used."""
        super().__init__(2)


@dataclass(frozen=True)
class Process:
    """One of `count` processes, each with a GPU of its own."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Process:
        """This one, as `torchrun` tells it, once it has met the others; its GPU becomes current."""
        process = cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        has_gpu = torch.cuda.is_available()
        if has_gpu and local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        if process.count > 1 and not torch.distributed.is_initialized():
            # messages go over the CPU, so that no GPU has to wait for them
            backend = "cpu:gloo,cuda:nccl" if has_gpu else "gloo"
            torch.distributed.init_process_group(backend, timeout=_PATIENCE)
        return process

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and tells."""
        return self.rank == 0

    @contextlib.contextmanager
    def agreeing(self) -> Iterator[None]:
        """Around what may find an input that cannot be used: all go on, or none does.

        Raises:
            ValueError, OSError: in the first process; its own problem, or those of the others.
            ToldElsewhereError: in the others.
        """
        problem: ValueError | OSError | None = None
        try:
            yield
        except (ValueError, OSError) as error:
            if self.count == 1:
                raise
            problem = error
        told = everyones(None if problem is None else str(problem))
        if all(text is None for text in told):
            return
        if not self.is_first:
            self._wait_until_told()
            raise ToldElsewhereError
        atexit.register(self.leave)
        if problem is not None:
            raise problem
        raise ValueError(
            "\n".join(f"process {rank}: {text}" for rank, text in enumerate(told) if text)
        )

    def check_start(self, device: torch.device) -> None:
        """Raises ValueError if the processes were started in a way that cannot train."""
        sharding = [name for name in _SHARDING if os.environ.get(name, "").lower() == "true"]
        if sharding:
            raise ValueError(
                f"FSDP and DeepSpeed ({', '.join(sharding)}) are not supported: they do not shard "
                "a 4-bit base, and checkpoints, evaluation and samples need every adapter whole; "
                "start with torchrun, which gives each GPU the whole base, in 4-bit a quarter of "
                "its size"
            )
        if self.count == 1 or device.type == "cpu":
            return
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.count))
        devices = torch.cuda.device_count() if device.type == "cuda" else 1
        if here > devices:
            raise ValueError(
                f"torchrun started {here} processes for {devices} {device.type} devices; each "
                f"needs one of its own: --nproc_per_node={devices}"
            )

    def _wait_until_told(self) -> None:
        """Until the first process has gone: torchrun ends all of them as soon as one has failed."""
        with contextlib.suppress(RuntimeError):  # how a lost connection is told
            everyones(None)
        self.leave()

    def leave(self) -> None:
        """Let the others go: what is left to do is done by the first one alone."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
