"""Goes on with smaller micro-batches when the memory of the device does not suffice."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")
_logger = logging.getLogger(__name__)


def with_fitting_micro_batch(
    attempt: Callable[[int], Result], micro_batch_size: int, *, smallest: int = 1
) -> Result:
    """What `attempt(micro_batch_size)` returns, tried with half of it whenever memory runs out.

    An attempt builds model and trainer anew, with as many more accumulation steps, and goes on
    from the newest checkpoint: the rows behind a step and their order stay the same.

    Raises:
        ValueError: not even the smallest micro-batch fits.
    """
    while True:
        try:
            return attempt(micro_batch_size)
        except torch.OutOfMemoryError as error:
            told = str(error).partition("\n")[0]
        # Here the exception is gone, and with it the frames that held model and activations.
        gc.collect()
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        half = halve_micro_batch(micro_batch_size, smallest=smallest)
        _logger.warning(
            "out of memory with %d rows at once, going on with %d: %s", micro_batch_size, half, told
        )
        micro_batch_size = half


def halve_micro_batch(micro_batch_size: int, *, smallest: int = 1) -> int:
    """Half of it, which divides whatever it divided.

    Raises:
        ValueError: it cannot be halved; says what else saves memory.
    """
    half, rest = divmod(micro_batch_size, 2)
    if rest or half < smallest:
        raise ValueError(
            f"out of memory with {micro_batch_size} rows at once, which cannot be halved; lower "
            "max_length or lora_r, set gradient_checkpointing to true, use quantization nf4, "
            "or free memory that other processes hold"
        )
    return half
