"""The small operations between the products of a layer, in plain PyTorch: right on any device.

`serving.kernels` has the same functions as one kernel each, for CUDA devices.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
import sys
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from serving.sampler import Settings
from serving.sampler import sample as sample

logger = logging.getLogger(__name__)


class Ops(Protocol):
    """What a device can be given faster versions of."""

    def add_rms_norm(
        self, residual: Tensor, x: Tensor | None, weight: Tensor, eps: float
    ) -> Tensor:
        """Add x [tokens, hidden] to the float32 `residual` in place; return it normalized."""
        ...

    def rotate_and_store(
        self,
        qkv: Tensor,
        rotation: tuple[Tensor, Tensor],
        slots: Tensor,
        keys: Tensor,
        values: Tensor,
        num_heads: int,
    ) -> Tensor:
        """Rotate queries and keys by their positions, put keys and values into the cache.

        Args:
            qkv: [tokens, (heads + 2 * key-value heads) * head size].
            rotation: cosines and sines [tokens, head size / 2] of the positions.
            slots: [tokens] places in the cache.
            keys: [places, key-value heads, head size], written to.
            values: like `keys`.
            num_heads: number of query heads.

        Returns:
            The rotated queries [tokens, heads, head size].
        """
        ...

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up of [tokens, gate and up side by side]: [tokens, half of it]."""
        ...

    def expand_nf4(
        self, codes: Tensor, absmax: Tensor, shape: tuple[int, int], dtype: torch.dtype
    ) -> Tensor:
        """The matrix of NF4 codes [bytes, 1] with a scale per 64 weights."""
        ...

    def sample(self, logits: Tensor, rows: Settings, eos_ids: Tensor) -> Tensor:
        """Choose an id [rows] for each row of logits [rows, vocabulary].

        None of `eos_ids` is chosen before a row has its minimum of tokens. `NO_TOKEN` stands for a
        row whose logits are no numbers.
        """
        ...


@functools.cache
def device_ops(device: torch.device) -> Ops:
    """The fastest operations for a device: kernels where Triton can build them."""
    if device.type == "cuda" and triton_can_build():
        from serving import kernels

        return kernels
    return cast(Ops, sys.modules[__name__])


def add_rms_norm(residual: Tensor, x: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """See `Ops`."""
    if x is not None:
        residual += x
    # rounded once, at the end, where the model's own code rounds twice
    return functional.rms_norm(residual, weight.shape, weight.float(), eps).to(weight.dtype)


def rotate_and_store(
    qkv: Tensor,
    rotation: tuple[Tensor, Tensor],
    slots: Tensor,
    keys: Tensor,
    values: Tensor,
    num_heads: int,
) -> Tensor:
    """See `Ops`."""
    _, num_kv_heads, head_dim = keys.shape
    heads = qkv.view(len(qkv), -1, head_dim)
    cos, sin = (part[:, None] for part in rotation)
    first, second = heads[:, : num_heads + num_kv_heads].float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    rotated = rotated.to(qkv.dtype)
    keys.index_copy_(0, slots, rotated[:, num_heads:])
    values.index_copy_(0, slots, heads[:, num_heads + num_kv_heads :])
    return rotated[:, :num_heads]


def silu_mul(gate_up: Tensor) -> Tensor:
    """See `Ops`."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return (functional.silu(gate) * up).to(gate_up.dtype)


def expand_nf4(codes: Tensor, absmax: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """See `Ops`."""
    matrix: Tensor = torch.ops.bitsandbytes.dequantize_4bit(codes, absmax, 64, "nf4", shape, dtype)
    return matrix


@functools.cache
def triton_can_build() -> bool:
    """Whether kernels can be built here: Triton compiles its launcher with a C compiler."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if importlib.util.find_spec("triton") is None or compiler is None:
        logger.warning("slower GPU steps: Triton needs its package and a C compiler (install gcc)")
        return False
    return True
