"""Speed of generation, side by side in one run: the naive server, transformers, this engine.

Every request has 64 prompt tokens and gets 128 new ones, half of them with the settings of each
style; all requests of a row come at the same moment. Tokens a second count from there to the end of
the last answer, prompts included.

    python -m bench.serving --work FOLDER              # CUDA: makes a random model of 7B there
    python -m bench.serving --device cpu               # the bundled model
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from adapters.manifest import check_adapter
from adapters.prompts import Message, PromptFormat
from bench.naive_server import NaiveServer
from bench.random_model import make_random_adapter, make_random_base
from serving.base_model import grow_embeddings, load_base
from serving.config import Device, EngineConfig, Weights
from serving.engine import ModelEngine
from serving.loader import attach_adapter
from serving.startup import resolve_base_folder
from serving.types import Completion, GenerationRequest

PROMPT_TOKENS = 64
NEW_TOKENS = 128
_NAIVE_REQUESTS = 2
"""The naive server's speed does not depend on how many wait, so two tell it."""


@dataclass(frozen=True)
class Row:
    """One measurement; times in the units of their names."""

    engine: str
    weights: str
    requests: int
    tokens_per_second: float
    ms_per_step: float
    ttft_p50: float
    ttft_p99: float
    memory_gb: float


@dataclass(frozen=True)
class Subject:
    """What is served."""

    adapter: Path
    base: str
    device: Device

    def config(self, **values: object) -> EngineConfig:
        """Settings of the engine for it."""
        known = {"adapter": self.adapter, "base_model": self.base, "device": self.device}
        return EngineConfig(**{**known, **values})  # type: ignore[arg-type]

    def prompts(self, count: int) -> list[tuple[str, str]]:
        """Words that come to `PROMPT_TOKENS` tokens, and the style's name, for each request."""
        prompt = PromptFormat.from_folder(self.adapter)
        styles = check_adapter(self.adapter).styles
        found = []
        for number in range(count):
            style = styles[number % len(styles)]
            words = f"request {number}:"
            while len(prompt.encode_prompt([Message("user", words)], style.token)) < PROMPT_TOKENS:
                words += " a"
            found.append((words, style.name))
        return found

    def prompt_ids(self, count: int) -> list[list[int]]:
        """The same as ids."""
        prompt = PromptFormat.from_folder(self.adapter)
        tokens = {style.name: style.token for style in check_adapter(self.adapter).styles}
        return [
            prompt.encode_prompt([Message("user", words)], tokens[style])
            for words, style in self.prompts(count)
        ]


def measure_naive(subject: Subject, requests: Sequence[int]) -> Iterator[Row]:
    """`model.generate`, one request at a time; who comes n-th waits for n - 1 answers."""
    server = NaiveServer(subject.adapter, subject.base, subject.device)
    server.generate("Hello", 0, 8)
    seconds, first = [], []
    for number, (words, _) in enumerate(subject.prompts(_NAIVE_REQUESTS)):
        started = time.perf_counter()
        server.generate(words, number, 1)
        first.append(time.perf_counter() - started)
        started = time.perf_counter()
        server.generate(words, number, NEW_TOKENS)
        seconds.append(time.perf_counter() - started)
    answer, wait = statistics.median(seconds), statistics.median(first)
    for count in requests:
        waits = [place * answer + wait for place in range(count)]
        yield _row("naive", "nf4", count, NEW_TOKENS / answer, 1000 * answer / NEW_TOKENS, waits)


def measure_transformers(subject: Subject, requests: Sequence[int]) -> Iterator[Row]:
    """Transformers' continuous batching; it has one set of sampling settings for everybody."""
    manifest = check_adapter(subject.adapter)
    folder = resolve_base_folder(subject.base or manifest.base.name)
    model = load_base(folder, subject.device, "nf4")
    grow_embeddings(model, max(manifest.token_ids.values()) + 1)
    model = attach_adapter(model, subject.adapter).eval()
    preset = manifest.styles[-1].preset
    warm, settings = (
        GenerationConfig(
            do_sample=True,
            temperature=preset.temperature,
            top_p=preset.top_p,
            max_new_tokens=new_tokens,
            eos_token_id=-1,
            pad_token_id=0,
        )
        for new_tokens in (4, NEW_TOKENS)
    )
    for count in requests:
        inputs = subject.prompt_ids(count)
        options = ContinuousBatchingConfig(max_memory_percent=0.5)
        model.generate_batch(inputs, warm, options)
        outputs = model.generate_batch(inputs, settings, options, record_timestamps=True)
        answers = list(outputs.values())
        assert all(len(answer.generated_tokens) == NEW_TOKENS for answer in answers)
        stamps = [answer.timestamps for answer in answers]
        begun = min(answer.created_time for answer in answers)
        seconds = max(times[-1] for times in stamps) - begun
        steps = max(times[-1] - times[0] for times in stamps) / (NEW_TOKENS - 1)
        yield _row(
            "transformers-cb",
            "nf4",
            count,
            count * NEW_TOKENS / seconds,
            1000 * steps,
            [times[0] - begun for times in stamps],
        )


def measure_laconic(subject: Subject, requests: Sequence[int], weights: Weights) -> Iterator[Row]:
    """This engine, through the same door that the web server uses."""
    config = subject.config(weights=weights, max_batch_size=max(requests), queue_size=1)
    engine = ModelEngine(config)
    started = time.perf_counter()
    engine.start()
    while engine.status().state == "loading":
        time.sleep(0.05)
    if engine.status().state != "ready":
        raise RuntimeError(engine.status().detail)
    print(f"laconic {weights}: ready after {time.perf_counter() - started:.1f} s", flush=True)
    for count in requests:
        asked = [
            GenerationRequest(
                messages=(Message("user", words),),
                style=style,
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
                seed=number,
            )
            for number, (words, style) in enumerate(subject.prompts(count))
        ]
        _answer(engine, asked)  # whatever still is cold
        begun = time.perf_counter()
        answers = _answer(engine, asked)
        seconds = time.perf_counter() - begun
        longest = max(answer.seconds - answer.first_token_seconds for answer in answers)
        yield _row(
            "laconic",
            weights,
            count,
            count * NEW_TOKENS / seconds,
            1000 * longest / (NEW_TOKENS - 1),
            [answer.first_token_seconds for answer in answers],
        )
    engine.stop()


def _answer(engine: ModelEngine, asked: Sequence[GenerationRequest]) -> list[Completion]:
    handles = [engine.submit(request) for request in asked]
    answers = [handle.result() for handle in handles]
    assert all(answer.num_tokens == NEW_TOKENS for answer in answers)
    return answers


def _row(
    engine: str, weights: str, count: int, speed: float, step: float, waits: Sequence[float]
) -> Row:
    ordered = sorted(waits)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    memory = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0
    row = Row(engine, weights, count, speed, step, statistics.median(waits), p99, memory)
    print(_line(row), flush=True)
    return row


def _line(row: Row) -> str:
    return (
        f"{row.engine:16}{row.weights:6}{row.requests:9}{row.tokens_per_second:10.1f}"
        f"{row.ms_per_step:10.2f}{row.ttft_p50:10.3f}{row.ttft_p99:10.3f}{row.memory_gb:8.2f}"
    )


def _run(measure: Callable[[], Iterator[Row]]) -> list[Row]:
    """All rows of one engine; what it fails with is told, and the others go on."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    rows: list[Row] = []
    try:
        # In a thread that ends, or the idle workers of its products would slow the next engine's.
        with ThreadPoolExecutor(1) as thread:
            rows += thread.submit(lambda: list(measure())).result()
    except Exception as error:
        print(f"failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--adapter", type=Path, help="default: the bundled one, or a random one")
    parser.add_argument("--base-model", default="", help="default: the adapter's own")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--work", type=Path, help="folder for a random model of 7B")
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 8, 32, 64, 128])
    parser.add_argument(
        "--engines", nargs="+", default=["naive", "transformers-cb", "laconic"],
    )  # fmt: skip
    parser.add_argument("--weights", nargs="+", choices=["nf4", "bf16"], default=["nf4", "bf16"])
    arguments = parser.parse_args()
    adapter, base = arguments.adapter, arguments.base_model
    if adapter is None and arguments.work is not None:
        base = str(make_random_base(arguments.work / "base"))
        adapter = make_random_adapter(arguments.work / "adapter", Path(base))
    subject = Subject(adapter or EngineConfig().adapter, base, arguments.device)
    print(
        f"{'engine':16}{'weights':6}{'requests':>9}{'tok/s':>10}{'ms/step':>10}"
        f"{'ttft p50':>10}{'p99':>10}{'GB':>8}"
    )
    rows: list[Row] = []
    if "naive" in arguments.engines:
        rows += _run(lambda: measure_naive(subject, arguments.requests))
    if "transformers-cb" in arguments.engines:
        rows += _run(lambda: measure_transformers(subject, arguments.requests))
    if "laconic" in arguments.engines:
        for weights in arguments.weights:
            rows += _run(lambda: measure_laconic(subject, arguments.requests, weights))  # noqa: B023
    on_gpu = arguments.device == "cuda"
    print(
        json.dumps(
            {
                "device": torch.cuda.get_device_name() if on_gpu else "cpu",
                "model": base or check_adapter(subject.adapter).base.name,
                "rows": [asdict(row) for row in rows],
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
