"""A run's settings in the words of TRL and transformers."""

from __future__ import annotations

from typing import Any

import torch
from trl import DPOConfig, KTOConfig, SFTConfig

from training.budget import MOST_STEPS
from training.config import TrainConfig

CHECKPOINTING: dict[str, Any] = {"use_reentrant": True}
"""The older of PyTorch's two ways: it records nothing the first time, where the newer one calls
Python for every tensor that is kept, and so takes twice as long where the GPU waits for Python."""
# The same update, of all parameters in a few kernels.
_FUSED = {"adamw_torch": "adamw_torch_fused"}


def make_arguments(
    config: TrainConfig, device: torch.device, *, micro_batch_size: int, processes: int = 1
) -> SFTConfig | DPOConfig | KTOConfig:
    """The trainer's arguments; `micro_batch_size` rows at once on each of `processes`.

    Raises:
        ValueError: a name that the libraries do not know, or batches that do not divide.
    """
    rows, rest = divmod(config.effective_batch_size, micro_batch_size * processes)
    if rest:
        raise ValueError(
            f"effective_batch_size {config.effective_batch_size} must be a multiple of "
            f"{processes} processes x micro_batch_size {micro_batch_size}"
        )
    on_gpu = device.type == "cuda"
    bf16 = on_gpu and torch.cuda.is_bf16_supported()
    shared: dict[str, Any] = {
        "output_dir": str(config.run_folder),
        "per_device_train_batch_size": micro_batch_size,
        "per_device_eval_batch_size": micro_batch_size,
        "gradient_accumulation_steps": rows,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_fraction,  # below 1 it is a share
        "optim": _FUSED.get(config.optimizer, config.optimizer) if on_gpu else config.optimizer,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "num_train_epochs": config.epochs,
        "max_steps": MOST_STEPS if config.hours else config.max_steps,
        "max_length": None,  # longer rows were dealt with already
        # which layers, is decided once the model is there
        "activation_checkpointing": on_gpu and config.gradient_checkpointing is not False,
        "activation_checkpointing_kwargs": CHECKPOINTING,
        "bf16": bf16,
        "fp16": on_gpu and not bf16,
        "use_cpu": device.type == "cpu",
        "seed": config.seed,
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if config.evaluate_steps else "no",
        "eval_steps": config.evaluate_steps or None,
        "metric_for_best_model": "eval_loss" if config.evaluate_steps else None,
        "greater_is_better": False,
        "save_strategy": "steps" if config.save_steps or config.evaluate_steps else "no",
        "save_steps": config.save_steps or config.evaluate_steps or 500,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": on_gpu,
        "ddp_find_unused_parameters": False,
    }
    if config.method == "dpo":
        return DPOConfig(**shared, beta=config.beta)
    if config.method == "kto":
        return KTOConfig(**shared, beta=config.beta)
    return SFTConfig(**shared, padding_free=config.padding_free, completion_only_loss=True)
