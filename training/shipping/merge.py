"""Merges an adapter into its base: one complete model folder that needs neither of them."""

from __future__ import annotations

import contextlib
import gc
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, PreTrainedModel

from adapters.manifest import WEIGHTS_NAME, AdapterManifest
from adapters.prompts import Message, PromptFormat
from serving.base_model import grow_embeddings, load_base
from serving.config import Device, EngineConfig, Quantization
from serving.loader import attach_adapter, lay_out
from serving.startup import check_start, resolve_base_folder
from training.shipping.logit_difference import LogitDifference, answer_greedily, compare_logits
from training.shipping.merge_report import MergeReport
from training.shipping.merged_weights import merge_layers, round_weights
from training.shipping.styled_template import TemplateCheck, write_styled_tokenizer

_NO_TOKENIZER = {WEIGHTS_NAME, "adapter_config.json", "README.md"}
_QUESTIONS = ("What is rate limiting?", "How does a heat pump work?", "Why do leaves turn red?")


@dataclass(frozen=True)
class MergeRequest:
    """What to merge, and into what."""

    adapter: Path
    output: Path
    """Folder to write; it must not exist."""
    base_model: str = ""
    """Folder or hub id of the base model; empty for the one the adapter was trained on."""
    source: Literal["bf16", "nf4"] = "bf16"
    """Weights under the adapter: as published, or what 4-bit makes of them, as in training."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Precision of the result; `auto` for that of the published base."""
    device: Device = "cpu"
    """Where to merge; its memory must hold the whole model in the precision of the result."""


def merge(request: MergeRequest) -> MergeReport:
    """Write the merged model; the folder appears when it is complete.

    Raises:
        AdapterMismatchError: the adapter is damaged or does not fit the base model.
        FileNotFoundError: there is no such base model.
        ValueError: the output exists, the base is published quantized, or float16 is too narrow.
    """
    with complete_folder(request.output) as folder:
        return write_merged(folder, request)


@contextlib.contextmanager
def complete_folder(output: Path) -> Iterator[Path]:
    """A folder to fill that becomes `output` at the end, and is gone after a failure.

    Raises:
        ValueError: there is such a file or folder already.
    """
    if output.exists():
        raise ValueError(f"output {output} exists; remove it or name another folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        folder = Path(temporary) / output.name
        folder.mkdir()
        yield folder
        for file in folder.rglob("*"):
            if file.is_file():
                file.chmod(0o644)  # safetensors writes files that only their owner may read
        folder.rename(output)


def write_merged(
    folder: Path, request: MergeRequest, *, marked_template: bool = True
) -> MergeReport:
    """Fill an empty folder with the merged model; errors as in `merge`.

    `marked_template` is that of `write_styled_tokenizer`.
    """
    job = _prepare(request)
    model = _load(job, "nf4" if request.source == "nf4" else "none")
    merge_layers(model, load_file(request.adapter / WEIGHTS_NAME), job.dtype)
    round_weights(model, job.dtype)
    suppressed_ids = _suppressed_ids(model, job.prompt)
    _set_generation_defaults(model, job, suppressed_ids)
    model.save_pretrained(folder)
    vocab_size = model.get_input_embeddings().weight.shape[0]
    tied_embeddings = bool(model.config.get_text_config().tie_word_embeddings)
    del model
    report = MergeReport(
        adapter=job.manifest.name,
        adapter_version=job.manifest.version,
        base=job.manifest.base.name,
        base_fingerprint=job.manifest.base.fingerprint,
        source=request.source,
        dtype=str(job.dtype).removeprefix("torch."),
        vocab_size=vocab_size,
        tied_embeddings=tied_embeddings,
        difference=_difference(folder, job, suppressed_ids),
        template=_write_tokenizer(folder, job, marked=marked_template),
    )
    report.save(folder, job.manifest)
    return report


@dataclass(frozen=True)
class _Job:
    """A request, and what it says once its files have been read."""

    request: MergeRequest
    manifest: AdapterManifest
    prompt: PromptFormat
    base_folder: Path
    base_dtype: torch.dtype
    """Precision to load the published base in."""
    dtype: torch.dtype
    """Precision of the result."""


def _prepare(request: MergeRequest) -> _Job:
    """Check everything that can be checked without loading a model."""
    config = EngineConfig(
        adapter=request.adapter, base_model=request.base_model, device=request.device
    )
    manifest = check_start(config)
    base_folder = resolve_base_folder(request.base_model or manifest.base.name)
    settings = AutoConfig.from_pretrained(base_folder, trust_remote_code=False)
    if getattr(settings, "quantization_config", None) is not None:
        raise ValueError(
            f"base model {base_folder} is published quantized, too coarse to merge into; "
            "name the unquantized one: --base-model"
        )
    published = settings.dtype if isinstance(settings.dtype, torch.dtype) else torch.float32
    dtype = published if request.dtype == "auto" else getattr(torch, request.dtype)
    # Other than to float32, weights without LoRA may as well be rounded at the end.
    base_dtype = torch.float32 if dtype == torch.float32 else published
    prompt = PromptFormat.from_folder(request.adapter)
    return _Job(request, manifest, prompt, base_folder, base_dtype, dtype)


def _load(job: _Job, quantization: Quantization) -> PreTrainedModel:
    """Base and adapter, the LoRA layers beside the weights; 4-bit ones as the server has them."""
    dtype = None if quantization == "nf4" else job.base_dtype
    model = load_base(
        job.base_folder,
        job.request.device,
        quantization,
        dtype,
        rope_factor=job.manifest.rope_factor,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)  # new rows of the embedding are drawn at random
        grow_embeddings(model, max(job.manifest.token_ids.values()) + 1)
    return attach_adapter(model, job.request.adapter)


def _suppressed_ids(model: PreTrainedModel, prompt: PromptFormat) -> list[int]:
    """What the server never generates: control tokens, and rows that no token has."""
    num_rows = model.get_output_embeddings().weight.shape[0]
    unused = set(range(prompt.num_tokens, num_rows))
    return sorted((prompt.control_ids | unused) - {prompt.eos_id})


def _set_generation_defaults(model: PreTrainedModel, job: _Job, suppressed_ids: list[int]) -> None:
    """The default style's sampling, without its length: vLLM would hold every request to that."""
    settings, preset = model.generation_config, job.manifest.style(None).preset
    settings.do_sample = not preset.greedy
    settings.temperature = None if preset.greedy else preset.temperature
    settings.top_p = None if preset.greedy else preset.top_p
    settings.top_k = None if preset.greedy else 0  # transformers would take the best 50
    settings.eos_token_id = job.prompt.eos_id
    settings.suppress_tokens = suppressed_ids


def _write_tokenizer(folder: Path, job: _Job, *, marked: bool) -> TemplateCheck:
    """The adapter's tokenizer, with a chat template that knows the styles."""
    for name in set(job.manifest.files) - _NO_TOKENIZER:
        shutil.copyfile(job.request.adapter / name, folder / name)
    return write_styled_tokenizer(folder, job.manifest, job.prompt, marked=marked)


def _difference(folder: Path, job: _Job, suppressed_ids: list[int]) -> LogitDifference:
    """Let the adapter as it is served and the merged model read the same; one after the other."""
    prompts = [
        job.prompt.encode_prompt([Message("user", question)], style.token)
        for style in job.manifest.styles
        for question in _QUESTIONS
    ]
    config = EngineConfig(adapter=job.request.adapter)
    gc.collect()
    served = lay_out(_load(job, "nf4").eval(), config)
    answers = answer_greedily(served, prompts, suppressed_ids, job.prompt.eos_id)
    del served
    gc.collect()
    merged = lay_out(load_base(folder, job.request.device, "none", job.dtype).eval(), config)
    return compare_logits(merged, answers, suppressed_ids)
