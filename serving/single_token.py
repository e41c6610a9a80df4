"""Attention of one new token per row, as Triton kernels: what a step that generates needs.

FlashAttention is built for many queries; for one per row it takes three times as long.
"""

from __future__ import annotations

import functools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from serving.attention import StepInput

_BLOCK_KEYS = 64
_MOST_PARTS = 32


def attend_single(queries: Tensor, keys: Tensor, values: Tensor, step: StepInput) -> Tensor:
    """As `serving.attention.attend_flash`, for steps in which every row has one token."""
    rows, num_heads, head_dim = queries.shape
    num_kv_heads = keys.shape[1]
    group = num_heads // num_kv_heads
    parts = _parts(rows * num_kv_heads, queries.device)
    output = torch.empty_like(queries)
    # What the parts of a row found, for `_join`; with one part it is the output itself.
    sums = output
    scales = output
    if parts > 1:
        sums = _floats(queries.device, rows, num_heads, parts, head_dim)
        scales = _floats(queries.device, rows, num_heads, parts, 2)
    block = triton.next_power_of_2(head_dim)
    _attend[(rows, num_kv_heads, parts)](
        queries,
        keys,
        values,
        step.starts,
        step.lengths,
        sums,
        scales,
        num_kv_heads,
        math.log2(math.e) / math.sqrt(head_dim),
        HEAD=head_dim,
        GROUP=group,
        # a product on tensor cores has 16 rows at least
        BLOCK_GROUP=max(16, triton.next_power_of_2(group)),
        BLOCK_HEAD=max(16, block),
        BLOCK_KEYS=_BLOCK_KEYS,
        PARTS=parts,
        num_warps=4,
    )
    if parts > 1:
        _join[(rows, num_heads)](
            sums,
            scales,
            step.lengths,
            output,
            HEAD=head_dim,
            BLOCK_HEAD=block,
            BLOCK_KEYS=_BLOCK_KEYS,
            PARTS=parts,
            num_warps=2,
        )
    return output


def _floats(device: torch.device, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=device)


def _parts(programs: int, device: torch.device) -> int:
    """Parts to split each row's keys into, so that every processor has something to read."""
    wanted = max(1, 2 * _num_processors(device) // programs)
    return min(1 << (wanted.bit_length() - 1), _MOST_PARTS)


@functools.cache
def _num_processors(device: torch.device) -> int:
    count: int = torch.cuda.get_device_properties(device).multi_processor_count
    return count


@triton.jit
def _part_length(length, BLOCK_KEYS: tl.constexpr, PARTS: tl.constexpr):
    """Keys of every part but the last ones, in whole blocks."""
    return tl.cdiv(tl.cdiv(length, PARTS), BLOCK_KEYS) * BLOCK_KEYS


@triton.jit
def _attend(
    queries,
    keys,
    values,
    starts,
    lengths,
    sums,
    scales,
    num_kv_heads,
    scale,
    HEAD: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_HEAD: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    PARTS: tl.constexpr,
):
    """One part of the keys of a row, for the query heads that share a key-value head."""
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    part = tl.program_id(2)
    start = tl.load(starts + row).to(tl.int64)
    length = tl.load(lengths + row)
    per_part = _part_length(length, BLOCK_KEYS, PARTS)
    first = part * per_part
    end = tl.minimum(first + per_part, length)
    member = tl.arange(0, BLOCK_GROUP)
    column = tl.arange(0, BLOCK_HEAD)
    head = (row * num_kv_heads + kv_head) * GROUP + member
    inside = (member < GROUP)[:, None] & (column < HEAD)[None, :]
    q = tl.load(queries + head[:, None] * HEAD + column[None, :], mask=inside, other=0.0)
    highest = tl.full((BLOCK_GROUP,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_GROUP,), tl.float32)
    weighted = tl.zeros((BLOCK_GROUP, BLOCK_HEAD), tl.float32)
    for block in range(first, end, BLOCK_KEYS):
        place = block + tl.arange(0, BLOCK_KEYS)
        used = place < end
        # what lies behind a row's end may be no number at all: it is not read
        source = ((start + place) * num_kv_heads + kv_head)[:, None] * HEAD + column[None, :]
        wanted = used[:, None] & (column < HEAD)[None, :]
        k = tl.load(keys + source, mask=wanted, other=0.0)
        v = tl.load(values + source, mask=wanted, other=0.0)
        scores = tl.where(used[None, :], tl.dot(q, tl.trans(k)) * scale, float("-inf"))
        new_highest = tl.maximum(highest, tl.max(scores, 1))
        shrink = tl.exp2(highest - new_highest)
        weights = tl.exp2(scores - new_highest[:, None])
        total = total * shrink + tl.sum(weights, 1)
        weighted = weighted * shrink[:, None] + tl.dot(weights.to(v.dtype), v)
        highest = new_highest
    if PARTS == 1:
        place = head[:, None] * HEAD + column[None, :]
        result = weighted / total[:, None]
        tl.store(sums + place, result.to(sums.dtype.element_ty), mask=inside)
    elif first < end:
        slot = head * PARTS + part
        tl.store(sums + slot[:, None] * HEAD + column[None, :], weighted, mask=inside)
        tl.store(scales + slot * 2, highest, mask=member < GROUP)
        tl.store(scales + slot * 2 + 1, total, mask=member < GROUP)


@triton.jit
def _join(
    sums,
    scales,
    lengths,
    output,
    HEAD: tl.constexpr,
    BLOCK_HEAD: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Puts together what the parts of one row and head found."""
    row = tl.program_id(0).to(tl.int64)
    head = row * tl.num_programs(1) + tl.program_id(1)
    length = tl.load(lengths + row)
    part = tl.arange(0, PARTS)
    written = part * _part_length(length, BLOCK_KEYS, PARTS) < length
    slot = head * PARTS + part
    highest = tl.load(scales + slot * 2, mask=written, other=float("-inf"))
    total = tl.load(scales + slot * 2 + 1, mask=written, other=0.0)
    column = tl.arange(0, BLOCK_HEAD)
    wanted = written[:, None] & (column < HEAD)[None, :]
    weighted = tl.load(sums + slot[:, None] * HEAD + column[None, :], mask=wanted, other=0.0)
    share = tl.exp2(highest - tl.max(highest))
    result = tl.sum(weighted * share[:, None], 0) / tl.sum(total * share)
    place = output + head * HEAD + column
    tl.store(place, result.to(output.dtype.element_ty), mask=column < HEAD)
