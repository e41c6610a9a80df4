"""A run that takes a second or two: a random base of two layers, made-up rows, every safety on."""

from __future__ import annotations

import signal
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoTokenizer,
    MistralConfig,
    MistralForCausalLM,
    PrinterCallback,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer

from training.survival.run_folder import RunFolder
from training.survival.safe_trainer import CrashSafe

POCKET = Path(__file__).parents[3] / "models" / "pocket"
WEIGHTS = "adapter_model.safetensors"
STEPS = 12
NUM_ROWS = 40
"""Ten steps an epoch, so that a run of twelve crosses from one to the next."""


class TinyTrainer(CrashSafe, SFTTrainer):
    """What the real trainer will be."""


class Act(TrainerCallback):
    """Does something when a step has begun: there are `step` whole ones by then."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_begin(self, args, state, control, **_):
        if state.global_step == self.step:
            self.action()


def signal_in(step, number):
    """Sends this process a signal during the step that follows `step` whole ones."""
    return Act(step, lambda: signal.raise_signal(number))


def make_trainer(
    run, *, micro_batch_size=4, dropout=0.1, callbacks=(), trainer=TinyTrainer, **arguments
):
    """A trainer of four rows a step; on a CPU its steps take milliseconds."""
    torch.manual_seed(0)
    base = MistralForCausalLM(
        MistralConfig(
            vocab_size=2048,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    defaults = {
        "output_dir": "runs/tiny" if run is None else str(run.path),
        "per_device_train_batch_size": micro_batch_size,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 4 // micro_batch_size,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "max_steps": STEPS,
        "padding_free": True,
        "max_length": None,
        "completion_only_loss": True,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "seed": 3,
        "logging_steps": 5,
        "save_strategy": "steps",
        "save_steps": 3,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    built = trainer(
        model=base,
        args=SFTConfig(**{**defaults, **arguments}),
        train_dataset=rows(NUM_ROWS),
        eval_dataset=rows(4),
        processing_class=AutoTokenizer.from_pretrained(POCKET),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=4,
            lora_dropout=dropout,
            target_modules=["q_proj", "down_proj"],
            trainable_token_indices={"embed_tokens": [10, 11]},
        ),
        callbacks=list(callbacks),
        run=run,
    )
    built.remove_callback(PrinterCallback)
    for parameter in built.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return built


def rows(count):
    """Rows that tell of their number: token 100 + n stands in row n, counted from 1."""
    ids = [[1, 10 + n % 2, 100 + n, 300 + n % 7, 400, 2] for n in range(1, count + 1)]
    return Dataset.from_dict({"input_ids": ids, "completion_mask": [[0, 0, 0, 1, 1, 1]] * count})


def run_tiny(folder: Path, *, callbacks=(), fresh=False, **arguments):
    """Train in this process, as a command would; the trainer, its weights written."""
    with RunFolder.open(folder, {"recipe": "tiny"}, fresh=fresh) as run:
        trainer = make_trainer(run, callbacks=callbacks, **arguments)
        trainer.result = trainer.train()
        if trainer.stopped_by is None:
            trainer.model.save_pretrained(folder / "done", save_embedding_layers=False)
            run.finish()
    return trainer


def weights(folder: Path) -> bytes:
    """What a finished run has learned."""
    return (folder / "done" / WEIGHTS).read_bytes()
