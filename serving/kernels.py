"""The operations of `serving.ops` as one Triton kernel each: a step is short, launches are not."""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from bitsandbytes.functional import get_4bit_type
from torch import Tensor

_BYTES = 1024
"""NF4 codes that one program expands."""


def add_rms_norm(residual: Tensor, x: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    """See `serving.ops.Ops`."""
    tokens, hidden = residual.shape
    out = torch.empty(tokens, hidden, dtype=weight.dtype, device=weight.device)
    _add_rms_norm[(tokens,)](
        residual,
        residual if x is None else x,
        weight,
        out,
        hidden,
        eps,
        ADD=x is not None,
        BLOCK=triton.next_power_of_2(hidden),
        num_warps=8,
    )
    return out


def rotate_and_store(
    qkv: Tensor,
    rotation: tuple[Tensor, Tensor],
    slots: Tensor,
    keys: Tensor,
    values: Tensor,
    num_heads: int,
) -> Tensor:
    """See `serving.ops.Ops`."""
    tokens, (_, num_kv_heads, head_dim) = len(qkv), keys.shape
    queries = torch.empty(tokens, num_heads, head_dim, dtype=qkv.dtype, device=qkv.device)
    _rotate_and_store[(tokens, num_heads + 2 * num_kv_heads)](
        qkv,
        *rotation,
        slots,
        queries,
        keys,
        values,
        num_heads,
        num_kv_heads,
        HALF=head_dim // 2,
        BLOCK=triton.next_power_of_2(head_dim // 2),
        num_warps=1,
    )
    return queries


def silu_mul(gate_up: Tensor) -> Tensor:
    """See `serving.ops.Ops`."""
    tokens, both = gate_up.shape
    out = torch.empty(tokens, both // 2, dtype=gate_up.dtype, device=gate_up.device)
    block = 1024
    grid = (tokens, triton.cdiv(both // 2, block))
    _silu_mul[grid](gate_up, out, both // 2, BLOCK=block)
    return out


def expand_nf4(codes: Tensor, absmax: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """See `serving.ops.Ops`."""
    out = torch.empty(shape, dtype=dtype, device=codes.device)
    grid = (triton.cdiv(codes.numel(), _BYTES),)
    _expand_nf4[grid](codes, absmax, _nf4_values(codes.device), out, codes.numel(), BYTES=_BYTES)
    return out


@functools.cache
def _nf4_values(device: torch.device) -> Tensor:
    """The 16 values of NF4, float32."""
    values: Tensor = get_4bit_type("nf4", device=device)
    return values.float()


@triton.jit
def _add_rms_norm(
    residual,
    x,
    weight,
    out,
    hidden,
    eps,
    ADD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column = tl.arange(0, BLOCK)
    place = tl.program_id(0).to(tl.int64) * hidden + column
    inside = column < hidden
    row = tl.load(residual + place, mask=inside, other=0.0)
    if ADD:
        row += tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
        tl.store(residual + place, row, mask=inside)
    scale = tl.rsqrt(tl.sum(row * row) / hidden + eps)
    kind = out.dtype.element_ty
    normalized = (row * scale).to(kind) * tl.load(weight + column, mask=inside, other=0.0)
    tl.store(out + place, normalized.to(kind), mask=inside)


@triton.jit
def _rotate_and_store(
    qkv,
    cosines,
    sines,
    slots,
    queries,
    keys,
    values,
    num_heads,
    num_kv_heads,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    column = tl.arange(0, BLOCK)
    inside = column < HALF
    source = qkv + (token * (num_heads + 2 * num_kv_heads) + head) * 2 * HALF + column
    first = tl.load(source, mask=inside)
    second = tl.load(source + HALF, mask=inside)
    slot = tl.load(slots + token)
    if head >= num_heads + num_kv_heads:
        target = values + (slot * num_kv_heads + head - num_heads - num_kv_heads) * 2 * HALF
    else:
        cos = tl.load(cosines + token * HALF + column, mask=inside)
        sin = tl.load(sines + token * HALF + column, mask=inside)
        x, y = first.to(tl.float32), second.to(tl.float32)
        first = (x * cos - y * sin).to(first.dtype)
        second = (y * cos + x * sin).to(second.dtype)
        if head >= num_heads:
            target = keys + (slot * num_kv_heads + head - num_heads) * 2 * HALF
        else:
            target = queries + (token * num_heads + head) * 2 * HALF
    tl.store(target + column, first, mask=inside)
    tl.store(target + column + HALF, second, mask=inside)


@triton.jit
def _silu_mul(gate_up, out, half, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < half
    gate = tl.load(gate_up + token * 2 * half + column, mask=inside).to(tl.float32)
    up = tl.load(gate_up + token * 2 * half + half + column, mask=inside)
    kind = out.dtype.element_ty
    product = (gate * tl.sigmoid(gate)).to(kind) * up
    tl.store(out + token * half + column, product, mask=inside)


@triton.jit
def _expand_nf4(codes, absmax, values, out, num_bytes, BYTES: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BYTES
    byte = first + tl.arange(0, BYTES)
    inside = byte < num_bytes
    pair = tl.load(codes + byte, mask=inside, other=0)
    scale = tl.load(absmax + byte // 32, mask=inside, other=0.0)
    # the high half of a byte comes first
    high = tl.load(values + (pair >> 4).to(tl.int32)) * scale
    low = tl.load(values + (pair & 15).to(tl.int32)) * scale
    place = 2 * first + tl.arange(0, 2 * BYTES)
    both = tl.interleave(high, low).to(out.dtype.element_ty)
    tl.store(out + place, both, mask=place < 2 * num_bytes)
