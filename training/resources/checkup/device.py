"""What the run would compute on, asked as the loader of models asks."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import torch

from serving.base_model import choose_device, compute_dtype
from training.config import TrainConfig
from training.resources.checkup.finding import Finding, readable_bytes


@dataclass(frozen=True)
class DeviceFacts:
    """A device and its memory."""

    type: str
    """'cuda' (ROCm too), 'mps' or 'cpu'."""
    platform: str
    """'CUDA 13.0', 'ROCm 7.1', 'MPS' or 'CPU'."""
    name: str
    total_bytes: int | None
    """None on the CPU, whose memory is not the model's alone."""
    free_bytes: int | None
    dtype: str
    """What the model computes in: 'bfloat16'."""

    @property
    def dtype_bytes(self) -> int:
        """Of one number that the model computes in."""
        return 4 if self.dtype == "float32" else 2


def read_device(config: TrainConfig) -> DeviceFacts:
    """The device that the settings stand for.

    Raises:
        ValueError: it is not there.
    """
    device = choose_device(config.device)
    total, free = memory_of(device)
    return DeviceFacts(
        type=device.type,
        platform=_platform(device),
        name=torch.cuda.get_device_name(device) if device.type == "cuda" else "",
        total_bytes=total,
        free_bytes=free,
        dtype=str(compute_dtype(device)).removeprefix("torch."),
    )


def memory_of(device: torch.device) -> tuple[int | None, int | None]:
    """Total and free bytes of a device with memory of its own; None twice for the CPU."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total, free
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return total, total - torch.mps.driver_allocated_memory()
    return None, None


def check_device(device: DeviceFacts, config: TrainConfig, *, has_nvidia: bool) -> list[Finding]:
    """What the device is, and what does not go well with it."""
    text = f"{device.platform} {device.name}".strip() + f", computes in {device.dtype}"
    if device.total_bytes is not None and device.free_bytes is not None:
        total, free = readable_bytes(device.total_bytes), readable_bytes(device.free_bytes)
        text += f", {free} of {total} free"
    findings = [Finding("ok", "device", text)]
    if device.type == "cpu" and has_nvidia and config.device == "auto":
        text = "there is an NVIDIA driver, but torch does not use it; training is on the CPU"
        fix = "install a CUDA build of torch that fits the driver, or set device to cpu"
        findings.append(Finding("warning", "device", text, fix))
    if device.type == "cuda" and device.dtype == "float16":
        text = "this GPU has no bfloat16; float16 overflows more easily"
        fix = "watch for losses that are not a number; a lower learning_rate helps"
        findings.append(Finding("warning", "device", text, fix))
    if device.type == "mps" and config.quantization == "nf4":
        text = "4-bit weights do not work on Apple GPUs"
        findings.append(Finding("problem", "device", text, "set quantization to none"))
    return findings


def has_nvidia_driver() -> bool:
    """Whether the driver's own tool is on the path."""
    return shutil.which("nvidia-smi") is not None


def _platform(device: torch.device) -> str:
    if device.type != "cuda":
        return device.type.upper()
    hip = torch.version.hip
    return f"CUDA {torch.version.cuda}" if hip is None else f"ROCm {hip}"
