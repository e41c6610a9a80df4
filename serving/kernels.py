"""The operations of `serving.ops` as one Triton kernel each: a step is short, launches are not."""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from bitsandbytes.functional import get_4bit_type
from torch import Tensor

from serving import sampler
from serving.sampler import Settings

_BYTES = 1024
"""NF4 codes that one program expands."""
_MOST_TOKENS = 65536
"""Of a vocabulary whose probabilities one program can hold."""


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


def sample(logits: Tensor, rows: Settings, eos_ids: Tensor) -> Tensor:
    """See `serving.ops.Ops`."""
    num_rows, vocab_size = logits.shape
    if vocab_size > _MOST_TOKENS:
        return sampler.sample(logits, rows, eos_ids)
    block = triton.next_power_of_2(vocab_size)
    chosen = torch.empty(num_rows, dtype=torch.long, device=logits.device)
    _sample[(num_rows,)](
        logits,
        rows.suppressed.view(torch.uint8),
        rows.temperature,
        rows.top_p,
        rows.top_k,
        rows.min_new,
        rows.num_generated,
        rows.seed,
        eos_ids,
        chosen,
        vocab_size,
        NUM_EOS=len(eos_ids),
        NO_TOKEN=sampler.NO_TOKEN,
        BLOCK=block,
        GROUP=min(block, 256),
        num_warps=32,
    )
    return chosen


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
    normalized = row * scale * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, normalized.to(out.dtype.element_ty), mask=inside)


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
    up = tl.load(gate_up + token * 2 * half + half + column, mask=inside).to(tl.float32)
    product = gate * tl.sigmoid(gate) * up
    tl.store(out + token * half + column, product.to(out.dtype.element_ty), mask=inside)


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


# Rows begin anywhere in the settings of all: for each alignment that their addresses happen to have
# Triton would compile the kernel anew, in the midst of serving.
_OF_ROWS = ["suppressed", "temperatures", "top_ps", "top_ks", "min_new", "num_generated", "seeds"]


@triton.jit(do_not_specialize_on_alignment=_OF_ROWS)
def _sample(
    logits,
    suppressed,
    temperatures,
    top_ps,
    top_ks,
    min_new,
    num_generated,
    seeds,
    eos_ids,
    chosen,
    vocab_size,
    NUM_EOS: tl.constexpr,
    NO_TOKEN: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUP: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    token = tl.arange(0, BLOCK)
    inside = token < vocab_size
    nothing = float("-inf")
    x = tl.load(logits + row * vocab_size + token, mask=inside, other=nothing).to(tl.float32)
    banned = tl.load(suppressed + row * vocab_size + token, mask=inside, other=1)
    x = tl.where(banned != 0, nothing, x)
    too_short = tl.load(num_generated + row) < tl.load(min_new + row)
    for number in tl.static_range(NUM_EOS):
        x = tl.where((token == tl.load(eos_ids + number)) & too_short, nothing, x)
    highest, likeliest = tl.max(x, 0, return_indices=True)
    best = likeliest.to(tl.int64)
    temperature = tl.load(temperatures + row)
    if temperature > 0:
        weights = tl.exp((x - highest) / temperature)
        top_k = tl.load(top_ks + row)
        if top_k > 0:
            weights = _keep(weights, (weights == weights).to(tl.float32), top_k.to(tl.float32))
        top_p = tl.load(top_ps + row)
        if top_p < 1:
            weights = _keep(weights, weights, top_p * tl.sum(weights))
        where = _uniform(tl.load(seeds + row), tl.load(num_generated + row))
        best = _draw(weights, where, BLOCK, GROUP)
    broken = (tl.sum((x != x).to(tl.int32)) > 0) | (highest == nothing) | (highest == -nothing)
    tl.store(chosen + row, tl.where(broken, NO_TOKEN, best))


@triton.jit
def _keep(weights, counted, wanted):
    """The largest weights, as few as bring the sum of what is counted up to what is wanted.

    The bits of a float that is not negative are in its order, so the smallest weight to keep is
    found by halving the numbers between 0 and 1, the largest weight there is.
    """
    low = tl.full((), 0, tl.int32)
    high = tl.full((), 0x3F800001, tl.int32)
    while high - low > 1:
        middle = (low + high) // 2
        floor = middle.to(tl.float32, bitcast=True)
        enough = tl.sum(tl.where(weights >= floor, counted, 0.0)) >= wanted
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle)
    return tl.where(weights >= low.to(tl.float32, bitcast=True), weights, 0.0)


@triton.jit
def _draw(weights, number, BLOCK: tl.constexpr, GROUP: tl.constexpr):
    """The token on whose part of the line of all weights a number in [0, 1) lies.

    First the group of tokens, then the token: a sum over all of them at once is slow to compile.
    """
    groups = tl.reshape(weights, (BLOCK // GROUP, GROUP))
    sums = tl.sum(groups, 1)
    goal = number * tl.sum(sums)
    ends = tl.cumsum(sums, 0)
    group = tl.minimum(tl.sum((ends <= goal).to(tl.int32)), _last(sums, BLOCK // GROUP))
    index = tl.arange(0, BLOCK // GROUP)
    before = tl.sum(tl.where(index < group, sums, 0.0))
    inner = tl.sum(tl.where((index == group)[:, None], groups, 0.0), 0)
    place = tl.sum((tl.cumsum(inner, 0) <= goal - before).to(tl.int32))
    return (group * GROUP + tl.minimum(place, _last(inner, GROUP))).to(tl.int64)


@triton.jit
def _last(weights, SIZE: tl.constexpr):
    """The last place with a weight above 0."""
    return tl.max(tl.where(weights > 0, tl.arange(0, SIZE), 0))


@triton.jit
def _uniform(seed, counter):
    """`serving.sampler.uniform` for one row."""
    x = seed.to(tl.uint64) + (counter + 1).to(tl.uint64) * 0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return ((x ^ (x >> 31)) >> 40).to(tl.float32) * 5.9604644775390625e-8
