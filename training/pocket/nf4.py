"""Rounding to the NF4 data type (Dettmers et al. 2023, QLoRA, appendix E), for training only.

Serving and adapter training use bitsandbytes; this one lets gradients be computed around it.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

BLOCK_SIZE = 64
_CODE = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


@functools.cache
def _code(device: torch.device) -> Tensor:
    """Made once, since a CUDA graph may not copy from the host."""
    return torch.tensor(_CODE, device=device)


def round_to_nf4(weight: Tensor) -> Tensor:
    """The nearest NF4 values of a weight whose size is a multiple of 64; same shape and dtype."""
    blocks = weight.float().reshape(-1, BLOCK_SIZE)
    scale = blocks.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    code = _code(weight.device)
    nearest = torch.bucketize(blocks / scale, (code[1:] + code[:-1]) / 2)
    return (code[nearest] * scale).reshape(weight.shape).to(weight.dtype)
