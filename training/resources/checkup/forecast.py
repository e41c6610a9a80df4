"""The plan that the trainer would make, and what it takes in memory and time."""

from __future__ import annotations

from collections.abc import Sequence

from training.config import TrainConfig
from training.resources.checkup.device import DeviceFacts
from training.resources.checkup.finding import Finding, readable_bytes
from training.resources.duration import estimate_seconds, num_steps
from training.resources.model_shape import ModelShape
from training.resources.plan import Plan, choose_plan, describe_checkpointing

_MANY_WEIGHTS_ON_A_CPU = 500_000_000


def check_forecast(
    shape: ModelShape, config: TrainConfig, lengths: Sequence[int], device: DeviceFacts
) -> tuple[Plan | None, list[Finding]]:
    """The plan for these rows on this device, or why none fits."""
    try:
        plan = choose_plan(
            shape, config, lengths, device.free_bytes, dtype_bytes=device.dtype_bytes
        )
    except ValueError as error:
        text, _, fix = str(error).partition("; ")
        return None, [Finding("problem", "memory", text, fix)]
    findings = [
        Finding("ok", "plan", _describe(plan, shape, config)),
        Finding("ok", "memory", _describe_memory(plan, shape, device)),
        _duration(plan, shape, config, lengths, device),
    ]
    if config.dora:
        text = "the estimate for DoRA was never compared with a run"
        findings.append(Finding("warning", "memory", text, "add --trial"))
    return plan, findings


def _describe(plan: Plan, shape: ModelShape, config: TrainConfig) -> str:
    steps = config.effective_batch_size // plan.micro_batch_size
    return (
        f"{plan.micro_batch_size} rows at once (at most {plan.tokens} tokens) x {steps} per step, "
        f"{describe_checkpointing(plan, shape.num_layers)}"
    )


def _describe_memory(plan: Plan, shape: ModelShape, device: DeviceFacts) -> str:
    memory = plan.estimate
    trained = memory.adapter + memory.gradients + memory.optimizer
    text = (
        f"{readable_bytes(memory.total)} at the peak, of which PyTorch counts "
        f"{readable_bytes(memory.allocated)}: base {readable_bytes(memory.weights)}, adapter and "
        f"optimizer {readable_bytes(trained)}, activations {readable_bytes(memory.activations)}, "
        f"workspace {readable_bytes(memory.workspace)}"
    )
    if device.free_bytes is not None:
        text += f"; {readable_bytes(device.free_bytes)} are free"
    return text


def _duration(
    plan: Plan,
    shape: ModelShape,
    config: TrainConfig,
    lengths: Sequence[int],
    device: DeviceFacts,
) -> Finding:
    seconds = estimate_seconds(shape, config, lengths, plan, gpu=device.name or None)
    if config.hours:
        return Finding("ok", "time", f"{config.hours:g} hours, as the budget says")
    steps = num_steps(config, len(lengths))
    if seconds is not None:
        text = f"about {seconds:.0f} s for {steps} steps, evaluation not counted"
        return Finding("ok", "time", text)
    text = f"{steps} steps; nothing was measured on {device.name or device.platform}"
    if device.type == "cpu" and shape.num_linear_weights > _MANY_WEIGHTS_ON_A_CPU:
        text += ", and a base of this size takes days on a CPU"
        return Finding("warning", "time", text, "use a GPU, or a smaller base_model")
    return Finding("ok", "time", f"{text}; --trial measures a step")
