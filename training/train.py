"""One training run, from rows to a finished adapter folder. Read `train` from top to bottom."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, PreTrainedModel, PrinterCallback
from trl import SFTConfig, SFTTrainer

from adapters.base import read_base_facts
from adapters.manifest import AdapterManifest
from adapters.prompts import FORMAT_VERSION, Message, PromptError, PromptFormat
from serving.base_model import choose_device
from serving.startup import resolve_base_folder
from training.config import TrainConfig
from training.evaluate import judge
from training.model import load_trainable_base, lora_config
from training.progress import ProgressBar
from training.rows import DataError, Row, data_sha256, load_rows
from training.style_tokens import prepare_tokenizer

_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")


class StyleTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer, which would save both embedding matrices beside every resized vocabulary."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.model.save_pretrained(
            output_dir or self.args.output_dir, state_dict=state_dict, save_embedding_layers=False
        )


def train(config: TrainConfig) -> Path:
    """Train an adapter, judge it through the server's engine, and return its folder.

    An adapter of that name that is there already stays in place until the new one is complete.

    Raises:
        ValueError: before any model is loaded; DataError lists every malformed row.
        FileNotFoundError: there is no such base model.
    """
    arguments = _arguments(config)
    base_folder = resolve_base_folder(config.base_model)
    rows = load_rows(Path(config.train_data), config.style_names)
    heldout = (
        []
        if config.heldout_data is None
        else load_rows(Path(config.heldout_data), config.style_names)
    )
    output = config.output_folder
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{config.name}-", dir=output.parent) as temporary:
        folder = Path(temporary) / config.name
        folder.mkdir()
        token_ids = prepare_tokenizer(base_folder, config.styles, folder)
        prompt = PromptFormat.from_folder(folder)
        datasets = [encode_rows(part, config, prompt) for part in (rows, heldout)]
        model = load_trainable_base(config, base_folder, prompt, token_ids)
        losses = _fit(model, datasets, arguments, lora_config(config, token_ids), folder)
        del model
        manifest = AdapterManifest(
            name=config.name,
            version=config.version,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            base=read_base_facts(base_folder, config.base_model),
            styles=config.styles,
            token_ids=token_ids,
            default_style=config.styles[0].name,
            prompt_format_version=FORMAT_VERSION,
            template_sha256=prompt.template_sha256,
            training=_describe_run(config, rows, heldout),
            scores=losses,
        ).save(folder)
        if config.evaluate_prompts > 0:
            questions = list(dict.fromkeys(row.prompt for row in heldout))
            judge(folder, manifest, questions[: config.evaluate_prompts], config)
        _put_in_place(folder, output)
    return output


def encode_rows(rows: list[Row], config: TrainConfig, prompt: PromptFormat) -> Dataset:
    """Rows as `input_ids` and `completion_mask`, each prompt as the server will build it.

    Raises:
        DataError: listing rows that are too long or that the chat template refuses.
    """
    tokens = {style.name: style.token for style in config.styles}
    columns: dict[str, list[list[int]]] = {"input_ids": [], "completion_mask": []}
    problems = []
    for number, row in enumerate(rows, 1):
        messages = [Message("user", row.prompt)]
        try:
            example = prompt.encode_example(messages, row.completion, tokens[row.style])
        except PromptError as error:
            problems.append(f"row {number}: {error}")
            continue
        if len(example.input_ids) > config.max_length:
            problems.append(
                f"row {number} has {len(example.input_ids)} tokens, "
                f"max_length is {config.max_length}"
            )
        assert example.input_ids[-1] == prompt.eos_id
        columns["input_ids"].append(example.input_ids)
        columns["completion_mask"].append(example.completion_mask)
    if problems:
        raise DataError("\n".join(problems))
    return Dataset.from_dict(columns)


def _fit(
    model: PreTrainedModel,
    datasets: list[Dataset],
    arguments: SFTConfig,
    lora: LoraConfig,
    folder: Path,
) -> dict[str, Any]:
    """Train and write the adapter's weights to the folder; returns losses and measurements."""
    rows, heldout = datasets
    trainer = StyleTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=heldout if len(heldout) else None,
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=lora,
        callbacks=[ProgressBar()],
    )
    trainer.remove_callback(PrinterCallback)  # would print a dictionary through the bar
    # TRL rounds what is trained to bfloat16; steps of 2e-4 would vanish in the rounding.
    _cast_trained(trainer.model, torch.float32)
    result = trainer.train()
    # Saved as the server computes, half the size on a GPU; losses are those of what is saved.
    _cast_trained(trainer.model, model.dtype)
    trainer.model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's template, all blanks
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    scores: dict[str, Any] = {
        "train_loss": result.training_loss,
        "train_losses": [[entry["step"], float(entry["loss"])] for entry in history],
        "train_seconds": result.metrics["train_runtime"],
        "steps": result.global_step,
    }
    if len(heldout):
        loss = trainer.evaluate()["eval_loss"]
        scores |= {"heldout_loss": loss, "heldout_perplexity": math.exp(loss)}
    if model.device.type == "cuda":
        scores["peak_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return scores


def _cast_trained(model: torch.nn.Module, dtype: torch.dtype) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)


def _arguments(config: TrainConfig) -> SFTConfig:
    on_gpu = choose_device(config.device).type == "cuda"
    micro_batch_size = config.micro_batch_size or config.effective_batch_size
    bf16 = on_gpu and torch.cuda.is_bf16_supported()
    return SFTConfig(
        output_dir=str(config.run_folder),
        per_device_train_batch_size=micro_batch_size,
        per_device_eval_batch_size=micro_batch_size,
        gradient_accumulation_steps=config.effective_batch_size // micro_batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler,
        warmup_steps=config.warmup_fraction,  # below 1 it is a share
        optim=config.optimizer,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps,
        padding_free=config.padding_free,
        max_length=None,  # longer rows were refused already
        completion_only_loss=True,
        gradient_checkpointing=config.gradient_checkpointing is not False,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=bf16,
        fp16=on_gpu and not bf16,
        use_cpu=not on_gpu,
        seed=config.seed,
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=on_gpu,
    )


def _describe_run(config: TrainConfig, rows: list[Row], heldout: list[Row]) -> dict[str, Any]:
    counts = {name: sum(row.style == name for row in rows) for name in config.style_names}
    return {
        "config": config.to_dict(),
        "data_sha256": data_sha256(Path(config.train_data)),
        "num_rows": counts,
        "num_heldout_rows": len(heldout),
        "versions": {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _put_in_place(folder: Path, output: Path) -> None:
    """Move the finished folder to its place, an older adapter out of the way first."""
    old = folder.parent / "old"
    if output.exists():
        output.rename(old)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner may read
    folder.rename(output)
    shutil.rmtree(old, ignore_errors=True)
