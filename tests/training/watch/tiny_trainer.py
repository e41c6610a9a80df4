"""A real trainer of TRL on a tiny model, for what only the libraries can tell.

The libraries take seconds to import, so only those who ask for a trainer wait for them.
"""

from pathlib import Path

from adapters.prompts import Message, PromptFormat
from training.config import TrainConfig

QUESTIONS = [[Message("user", f"What is number {n}?")] for n in range(4)]
ANSWERS = {"terse": "A number.", "verbose": "A number, " * 6 + "at length."}


def make_prompt(base: Path, folder: Path) -> tuple[PromptFormat, dict[str, int]]:
    """The tokenizer with style tokens, written to `folder`."""
    from training.style_tokens import prepare_tokenizer

    config = _config(base)
    token_ids = prepare_tokenizer(base, config.styles, folder)
    return PromptFormat.from_folder(folder), token_ids


def make_trainer(base: Path, folder: Path, callbacks=(), **arguments):
    """A trainer of four steps with two evaluations, its adapter seeded."""
    import torch
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from training.model import load_trainable
    from training.watch.evaluation import StyleEvaluation

    class EvaluatedTrainer(StyleEvaluation, SFTTrainer):
        """As a run mixes it."""

    config = _config(base)
    prompt, token_ids = make_prompt(base, folder)
    rows = encode(prompt, config)
    torch.manual_seed(1)
    settings = {
        "output_dir": str(folder / "run"),
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 3,
        "max_steps": 4,
        "logging_steps": 1,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "learning_rate": 1e-2,
        "max_length": None,
        "completion_only_loss": True,
        "padding_free": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
        "seed": 3,
        **arguments,
    }
    return EvaluatedTrainer(
        model=load_trainable(config, base, prompt, token_ids),
        args=SFTConfig(**settings),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=list(callbacks),
    )


def encode(prompt: PromptFormat, config: TrainConfig):
    """Every question in every style."""
    from datasets import Dataset

    columns = {"input_ids": [], "completion_mask": [], "style": []}
    for question in QUESTIONS:
        for style in config.styles:
            example = prompt.encode_example(question, ANSWERS[style.name], style.token)
            columns["input_ids"].append(example.input_ids)
            columns["completion_mask"].append(example.completion_mask)
            columns["style"].append(style.name)
    return Dataset.from_dict(columns)


def _config(base: Path) -> TrainConfig:
    return TrainConfig(
        name="tiny", base_model=str(base), train_data="none", quantization="none", device="cpu"
    )
