"""Chooses how a training run uses its GPU: rows at once, and layers that are computed twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.config import Method, TrainConfig
from training.resources.memory import MLP, MemoryEstimate, estimate
from training.resources.model_shape import ModelShape

CPU_MICRO_BATCH = 4
"""More rows at once are no faster on a CPU."""
_USABLE_SHARE = 0.9
"""Of the memory that is free; the rest is for what the estimate gets wrong."""


@dataclass(frozen=True)
class Room:
    """What a plan has to fit into, and with what."""

    shape: ModelShape
    free_bytes: int | None
    """Of the GPU, before the model is loaded; None on the CPU."""
    dtype_bytes: int
    """Of a number that the model computes with."""


@dataclass(frozen=True)
class Plan:
    """How to run, and what it will take."""

    micro_batch_size: int
    """Rows in one forward pass of a GPU."""
    checkpointed_layers: int
    """So many layers, counted from the first one, keep their input only and compute the rest
    again in the backward pass."""
    checkpointed_mlps: int
    """Of so many layers after them, the feed-forward block does."""
    tokens: int
    """The largest micro-batch that can occur, padding included."""
    estimate: MemoryEstimate
    """Memory at the peak, with that micro-batch."""


def choose_plan(
    shape: ModelShape,
    config: TrainConfig,
    lengths: Sequence[int],
    free_bytes: int | None,
    *,
    num_gpus: int = 1,
    dtype_bytes: int = 2,
) -> Plan:
    """The largest micro-batch, and for it the least checkpointing, that fit the memory.

    What the settings fix is kept. `lengths` are those of `row_lengths`; `free_bytes` is None on the
    CPU.

    Raises:
        ValueError: nothing fits, with the numbers and what to change; or the effective batch
            does not divide.
    """
    if not lengths:
        raise ValueError("there are no rows to plan for")
    sizes = _micro_batch_sizes(config, num_gpus)
    if free_bytes is None:
        fitting = [size for size in sizes if size <= CPU_MICRO_BATCH or config.micro_batch_size]
        again = _choices(shape, config)[0] if config.gradient_checkpointing is True else (0, 0)
        tokens = most_tokens(lengths, fitting[0], padded=config.pads_rows)
        return _plan(Room(shape, None, dtype_bytes), config, fitting[0], tokens, again)
    budget = usable_bytes(config, free_bytes)
    smallest: Plan | None = None
    room = Room(shape, free_bytes, dtype_bytes)
    for size in sizes:
        tokens = most_tokens(lengths, size, padded=config.pads_rows)
        for again in _choices(shape, config):
            plan = _plan(room, config, size, tokens, again)
            if plan.estimate.total <= budget:
                return plan
            if smallest is None or plan.estimate.total < smallest.estimate.total:
                smallest = plan
    assert smallest is not None
    raise ValueError(_misfit(config, smallest, budget, free_bytes))


def with_known_batches(plan: Plan, room: Room, config: TrainConfig, tokens: int) -> Plan:
    """The same with as little checkpointed as `tokens` ask for, the largest micro-batch there is.

    Rows in the order that training takes them are far from the worst that could come together.
    """
    if room.free_bytes is None or config.gradient_checkpointing != "auto":
        return plan
    for again in _choices(room.shape, config):
        found = _plan(room, config, plan.micro_batch_size, tokens, again)
        if found.estimate.total <= usable_bytes(config, room.free_bytes):
            return found
    return plan


def describe_checkpointing(plan: Plan, num_layers: int) -> str:
    """'3 of 32 layers checkpointed, and the feed-forward blocks of 29 more'."""
    blocks = f"the feed-forward blocks of {plan.checkpointed_mlps}"
    if plan.checkpointed_layers:
        more = f", and {blocks} more" if plan.checkpointed_mlps else ""
        return f"{plan.checkpointed_layers} of {num_layers} layers checkpointed{more}"
    if plan.checkpointed_mlps:
        return f"{blocks} of {num_layers} layers checkpointed"
    return "no layer checkpointed"


def row_lengths(columns: Mapping[str, Sequence[Sequence[Any]]], method: Method) -> list[int]:
    """Tokens that a forward pass reads for each row, from the columns of `dataset.encode`.

    A pair is read as two rows, the shorter one padded to the longer.
    """
    if method == "sft":
        return [len(ids) for ids in columns["input_ids"]]
    prompts = columns["prompt_ids"]
    if method == "kto":
        answers = columns["completion_ids"]
        return [len(ids) + len(answer) for ids, answer in zip(prompts, answers, strict=True)]
    pairs = zip(prompts, columns["chosen_ids"], columns["rejected_ids"], strict=True)
    return [2 * (len(ids) + max(len(chosen), len(rejected))) for ids, chosen, rejected in pairs]


def usable_bytes(config: TrainConfig, free_bytes: int) -> int:
    """What training may take: `memory_gb` as far as it is there, or nearly all that is free."""
    if config.memory_gb:
        return min(round(config.memory_gb * 1e9), free_bytes)
    return round(_USABLE_SHARE * free_bytes)


def most_tokens(lengths: Sequence[int], micro_batch_size: int, *, padded: bool) -> int:
    """Tokens of the largest micro-batch that these rows can make, padding included."""
    longest = sorted(lengths, reverse=True)[:micro_batch_size]
    return len(longest) * longest[0] if padded else sum(longest)


def _plan(
    room: Room, config: TrainConfig, micro_batch_size: int, tokens: int, again: tuple[int, int]
) -> Plan:
    layers, mlps = again
    memory = estimate(
        room.shape,
        config,
        tokens=tokens,
        checkpointed_layers=layers,
        checkpointed_mlps=mlps,
        dtype_bytes=room.dtype_bytes,
    )
    return Plan(micro_batch_size, layers, mlps, tokens, memory)


def _micro_batch_sizes(config: TrainConfig, num_gpus: int) -> list[int]:
    """What may be chosen, largest first."""
    rows, rest = divmod(config.effective_batch_size, num_gpus)
    size = config.micro_batch_size
    if rest or (size and rows % size):
        raise ValueError(
            f"effective_batch_size {config.effective_batch_size} must be a multiple of "
            f"{num_gpus} GPUs" + (f" x micro_batch_size {size}" if size else "")
        )
    if size:
        return [size]
    smallest = min(rows, 2 if config.method == "kto" else 1)  # KTO compares rows of a micro-batch
    return [size for size in range(rows, smallest - 1, -1) if rows % size == 0]


def _choices(shape: ModelShape, config: TrainConfig) -> Sequence[tuple[int, int]]:
    """Whole layers and feed-forward blocks that may be checkpointed, fastest first.

    A feed-forward block gives most of a layer's memory back for half of its work. All layers are
    never needed: what the last one keeps has the room that it would be computed again in anyway.
    """
    count = shape.num_layers
    if config.gradient_checkpointing != "auto":
        return [(count if config.gradient_checkpointing else 0, 0)]
    if any(linear.block == MLP for linear in shape.linears):
        blocks = [(0, mlps) for mlps in range(count + 1)]
        return blocks + [(layers, count - layers) for layers in range(1, count)]
    return [(layers, 0) for layers in range(count)]


def _misfit(config: TrainConfig, smallest: Plan, budget: int, free_bytes: int) -> str:
    memory = smallest.estimate
    fixed = memory.weights + memory.adapter + memory.gradients + memory.optimizer
    advice = []
    if config.memory_gb and free_bytes > budget:
        advice.append("raise memory_gb")
    if config.micro_batch_size > 1:
        advice.append("set micro_batch_size to 0, for as many rows as fit")
    if config.gradient_checkpointing is False:
        advice.append("set gradient_checkpointing to auto")
    if not config.padding_free and config.method == "sft":
        advice.append("set padding_free to true")
    if config.quantization != "nf4":
        advice.append("set quantization to nf4")
    advice += ["leave out or cut the longest rows (max_length, on_long_row)", "lower lora_r"]
    return (
        f"training does not fit the memory: {budget / 1e9:.1f} GB may be used "
        f"({free_bytes / 1e9:.1f} GB are free), but at least {memory.total / 1e9:.1f} GB are "
        f"needed for micro-batches of {smallest.micro_batch_size} rows ({smallest.tokens} tokens) "
        f"with as much checkpointed as the settings allow, {fixed / 1e9:.1f} GB of that "
        f"before any row is read; {', or '.join(advice)}"
    )
