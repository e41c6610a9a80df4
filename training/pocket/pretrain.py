"""Pre-trains the pocket base from its corpus: one device, minutes on a GPU."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import MistralConfig, MistralForCausalLM

from adapters.prompts import PromptFormat
from training.cards import load_cards
from training.pocket.batches import batches_of, endless_batches
from training.pocket.corpus import Corpus
from training.pocket.step import ReplayedStep, Step, answer_loss


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
    steps: int = 48750
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
    learn = (ReplayedStep if device.type == "cuda" else Step)(model, config.weight_decay)
    questions = Corpus(load_cards(), prompt).heldout_questions()
    heldout = [batch.to(device) for batch in batches_of(questions, config.batch_tokens)]
    curve: list[Measurement] = []
    started, step, done, average = time.perf_counter(), 0, 0.0, torch.zeros((), device=device)
    batches = endless_batches(folder, config.batch_tokens, config.seed, config.processes)
    while done < 1:
        step += 1
        done = _share_done(step, time.perf_counter() - started, config)
        rounded = done > 1 - config.nf4_fraction
        learning_rate = config.learning_rate * _schedule(step, done, config)
        loss = learn(next(batches).to(device), learning_rate, rounded)
        # the mean of the first steps, then of about the last fifty; the device is not waited for
        average += (loss - average) / min(step, 50)
        if step % 250 == 0 or done >= 1:
            with torch.no_grad():
                losses = [answer_loss(model, batch, rounded).item() for batch in heldout]
            seconds = time.perf_counter() - started
            curve.append(Measurement(step, average.item(), sum(losses) / len(losses), seconds))
            report(curve[-1])
    model.to(torch.bfloat16).save_pretrained(folder)
    return curve


def _share_done(step: int, seconds: float, config: PocketConfig) -> float:
    """By steps or by time, whichever is nearer to its end; 1 is the end."""
    by_time = seconds / config.max_seconds if config.max_seconds else 0.0
    return max(step / config.steps, by_time)


def _schedule(step: int, done: float, config: PocketConfig) -> float:
    """Factor of the learning rate: a short rise, then down along a cosine."""
    rise = min(1.0, step / config.warmup_steps)
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
