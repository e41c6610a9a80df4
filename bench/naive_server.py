"""The textbook server: PEFT's model, `model.generate`, one request at a time.

It is the baseline that every speed-up of the real engine is measured against.

    python -m bench.naive_server                      # the bundled adapter, on whatever is there
    python -m bench.naive_server --adapter FOLDER --requests 8 --new-tokens 128
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from adapters.manifest import check_adapter
from adapters.prompts import Message, PromptFormat
from serving.base_model import grow_embeddings, load_base
from serving.config import Device, EngineConfig
from serving.startup import resolve_base_folder

PROMPT = "What is rate limiting?"


@dataclass(frozen=True)
class Measurement:
    """Speed of one request after the other."""

    tokens_per_second: float
    ms_per_step: float
    seconds_per_request: float
    memory_gb: float


class NaiveServer:
    """What a tutorial would write; answers exactly as long as it is told to."""

    def __init__(self, adapter: Path, base_model: str = "", device: Device = "auto") -> None:
        """Load base and adapter, token rows and LoRA left as PEFT lays them out."""
        manifest = check_adapter(adapter)
        folder = resolve_base_folder(base_model or manifest.base.name)
        self.name = base_model or manifest.base.name
        base = load_base(folder, device, "nf4")
        grow_embeddings(base, max(manifest.token_ids.values()) + 1)
        self.model: Any = PeftModel.from_pretrained(base, adapter).eval()
        self.prompt = PromptFormat.from_folder(adapter)
        self.styles = manifest.styles

    def generate(self, prompt: str, style_number: int, new_tokens: int) -> list[int]:
        """Sample an answer of `new_tokens` tokens in a style."""
        style = self.styles[style_number % len(self.styles)]
        ids = self.prompt.encode_prompt([Message("user", prompt)], style.token)
        tensor = torch.tensor([ids], device=self.model.device)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=tensor,
                attention_mask=torch.ones_like(tensor),
                do_sample=True,
                temperature=style.preset.temperature,
                top_p=style.preset.top_p,
                min_new_tokens=new_tokens,
                max_new_tokens=new_tokens,
                pad_token_id=self.prompt.eos_id,
            )
        return [int(token) for token in output[0, len(ids) :]]


def measure(server: NaiveServer, requests: int, new_tokens: int) -> Measurement:
    """Answer requests one by one, after one to warm up."""
    server.generate(PROMPT, 0, 8)
    seconds = []
    for number in range(requests):
        started = time.perf_counter()
        assert len(server.generate(PROMPT, number, new_tokens)) == new_tokens
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    on_gpu = server.model.device.type == "cuda"
    return Measurement(
        tokens_per_second=new_tokens / median,
        ms_per_step=1000 * median / new_tokens,
        seconds_per_request=median,
        memory_gb=torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0,
    )


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--adapter", type=Path, default=EngineConfig().adapter)
    parser.add_argument("--base-model", default="", help="default: the adapter's own")
    parser.add_argument("--requests", type=int, default=6)
    parser.add_argument("--new-tokens", type=int, default=128)
    arguments = parser.parse_args()
    server = NaiveServer(arguments.adapter, arguments.base_model)
    result = measure(server, arguments.requests, arguments.new_tokens)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(f"{'engine':8}{'tok/s':>8}{'ms/step':>9}{'s/request':>11}{'GB':>7}")
    print(
        f"{'naive':8}{result.tokens_per_second:8.1f}{result.ms_per_step:9.1f}"
        f"{result.seconds_per_request:11.2f}{result.memory_gb:7.2f}"
    )
    row = {"engine": "naive", "weights": "nf4", "requests": 1, **vars(result)}
    print(json.dumps({"device": device, "model": server.name, "rows": [row]}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
