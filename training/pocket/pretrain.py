"""Pre-trains the pocket base from its corpus: one device, minutes on a GPU."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM

from adapters.prompts import Example, PromptFormat
from training.cards import load_cards
from training.pocket.corpus import Corpus
from training.pocket.nf4 import round_to_nf4


@dataclass(frozen=True)
class PocketConfig:
    """The recipe of the pocket base."""

    vocab_size: int = 6144
    hidden_size: int = 384
    num_layers: int = 7
    num_heads: int = 6
    num_key_value_heads: int = 2
    intermediate_size: int = 960
    max_position_embeddings: int = 2048
    steps: int = 11500
    """Optimizer steps."""
    max_seconds: float = 0.0
    """End by then, with fewer steps if need be; 0 for no limit. The schedule fits what is left."""
    batch_tokens: int = 16384
    """Tokens a step, padding included."""
    learning_rate: float = 1.5e-3
    warmup_steps: int = 200
    weight_decay: float = 0.1
    nf4_fraction: float = 0.3
    """Share of the steps, the last ones, that see weights rounded to NF4, as they are served."""
    seed: int = 20
    processes: int = 4
    """Processes that encode examples beforehand."""


@dataclass(frozen=True)
class Measurement:
    """One point of the loss curve."""

    step: int
    loss: float
    heldout_loss: float
    """Loss of the answers to held-out wordings."""
    seconds: float


def build_model(config: PocketConfig, eos_id: int, bos_id: int) -> MistralForCausalLM:
    """A Mistral with fresh weights, float32."""
    if torch.cuda.is_available() and importlib.util.find_spec("liger_kernel") is not None:
        _use_fused_kernels()
    return MistralForCausalLM(
        MistralConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_key_value_heads,
            max_position_embeddings=config.max_position_embeddings,
            sliding_window=None,
            tie_word_embeddings=False,
            bos_token_id=bos_id,
            eos_token_id=eos_id,
        )
    )


def _use_fused_kernels() -> None:
    """Liger's norm, rotation and activation: the same numbers in fewer passes over memory."""
    from liger_kernel.transformers import apply_liger_kernel_to_mistral

    apply_liger_kernel_to_mistral(fused_linear_cross_entropy=False)


def pretrain(
    config: PocketConfig, folder: Path, report: Callable[[Measurement], None]
) -> list[Measurement]:
    """Train on the corpus and write the weights (bfloat16) beside the tokenizer in `folder`."""
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prompt = PromptFormat.from_folder(folder)
    assert prompt.bos_id is not None
    model = build_model(config, prompt.eos_id, prompt.bos_id).to(device)
    optimizer = _optimizer(model, config)
    heldout = list(_batches(Corpus(load_cards(), prompt).heldout_questions(), config, device))
    curve: list[Measurement] = []
    started, step, done, average = time.perf_counter(), 0, 0.0, torch.zeros((), device=device)
    batches = _endless_batches(config, folder, device)
    while done < 1:
        step += 1
        done = _share_done(step, time.perf_counter() - started, config)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, done, config)
        rounded = done > 1 - config.nf4_fraction
        loss = _loss(model, next(batches), rounded)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # the mean of the first steps, then of about the last fifty; the device is not waited for
        average += (loss.detach() - average) / min(step, 50)
        if step % 250 == 0 or done >= 1:
            with torch.no_grad():
                losses = [_loss(model, batch, rounded).item() for batch in heldout]
            seconds = time.perf_counter() - started
            curve.append(Measurement(step, average.item(), sum(losses) / len(losses), seconds))
            report(curve[-1])
    model.to(torch.bfloat16).save_pretrained(folder)
    return curve


@dataclass(frozen=True)
class _Batch:
    """Rows of ids, padded on the right, and what is to be learned of them."""

    ids: Tensor
    """[rows, length]"""
    places: Tensor
    """[learned] places in the flattened ids from which the next id is to be told."""
    targets: Tensor
    """[learned]"""


def _loss(model: MistralForCausalLM, batch: _Batch, rounded: bool) -> Tensor:
    """Mean cross-entropy over the ids to learn."""
    # Causal attention never sees the padding, so no mask is needed.
    with torch.autocast(batch.ids.device.type, torch.bfloat16, enabled=batch.ids.is_cuda):
        weights = dict(_rounded_weights(model.model)) if rounded else {}
        output = torch.func.functional_call(
            model.model, weights, (batch.ids,), {"use_cache": False}
        )
        hidden = output.last_hidden_state.flatten(0, 1)[batch.places]
        logits = model.lm_head(hidden).float()
    return nn.functional.cross_entropy(logits, batch.targets)


def _rounded_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, weight in model.named_parameters():
        if name.startswith("layers.") and weight.ndim == 2:
            # straight-through: the forward pass sees the rounded value, the gradient passes by
            yield name, weight + (round_to_nf4(weight.detach()) - weight.detach())


def _share_done(step: int, seconds: float, config: PocketConfig) -> float:
    """By steps or by time, whichever is nearer to its end; 1 is the end."""
    by_time = seconds / config.max_seconds if config.max_seconds else 0.0
    return max(step / config.steps, by_time)


def _schedule(step: int, done: float, config: PocketConfig) -> float:
    """Factor of the learning rate: a short rise, then down along a cosine."""
    rise = min(1.0, step / config.warmup_steps)
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def _optimizer(model: MistralForCausalLM, config: PocketConfig) -> torch.optim.AdamW:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=fused)


def _endless_batches(config: PocketConfig, folder: Path, device: torch.device) -> Iterator[_Batch]:
    """Batches of ever new examples, encoded ahead by other processes."""
    # spawned, because a fork would copy the CUDA context
    with ProcessPoolExecutor(config.processes, multiprocessing.get_context("spawn")) as pool:
        seeds = iter(range(config.seed * 1_000_000, (config.seed + 1) * 1_000_000))
        pending = [pool.submit(_encode_chunk, folder, next(seeds)) for _ in range(config.processes)]
        while True:
            chunk = pending.pop(0).result()
            pending.append(pool.submit(_encode_chunk, folder, next(seeds)))
            yield from _batches(chunk, config, device)


def _encode_chunk(folder: Path, seed: int) -> list[Example]:
    corpus = Corpus(load_cards(), PromptFormat.from_folder(folder))
    return list(corpus.examples(4_000, seed))


def _batches(
    examples: list[Example], config: PocketConfig, device: torch.device
) -> Iterator[_Batch]:
    """Rows of like length together, in random order."""
    groups: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda example: len(example.input_ids)):
        if (len(groups[-1]) + 1) * _padded(len(example.input_ids)) > config.batch_tokens:
            groups.append([])
        groups[-1].append(example)
    random.Random(config.seed).shuffle(groups)
    for group in groups:
        length = _padded(max(len(example.input_ids) for example in group))
        ids = torch.zeros(len(group), length, dtype=torch.long)
        learned = torch.zeros(len(group), length, dtype=torch.bool)
        for row, example in enumerate(group):
            ids[row, : len(example.input_ids)] = torch.tensor(example.input_ids)
            learned[row, example.prompt_length - 1 : len(example.input_ids) - 1] = True
        places = learned.flatten().nonzero().squeeze(1)
        targets = ids.flatten()[places + 1]
        yield _Batch(*(_moved(part, device) for part in (ids, places, targets)))


def _moved(part: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for the work that it has still to do."""
    return part.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else part


def _padded(length: int) -> int:
    return -(-length // 16) * 16
