"""Judges a finished adapter the way callers will meet it: through the server's own loading.

The presets force lengths apart, so every style is measured with them off as well: greedy, no
minimum, a generous maximum. Controls show what the base does without the adapter.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from adapters.manifest import AdapterManifest
from adapters.prompts import Message
from adapters.styles import Preset
from serving.config import EngineConfig
from serving.core import EngineCore
from serving.loader import LoadedModel, load
from serving.sampling import SamplingParams
from serving.scheduler import Job
from serving.types import Output
from training.cards import ngram_counts
from training.config import TrainConfig

PRESETS_OFF = Preset(
    temperature=0.0, top_p=1.0, min_new_tokens=0, max_new_tokens=512, do_sample=False
)
PLAIN_INSTRUCTIONS = ("Answer briefly. {}", "Answer in detail. {}")
_BATCH_SIZE = 32
"""Answers between two moves of the progress bar."""


@dataclass(frozen=True)
class StyleScore:
    """Answers in one style to the same prompts."""

    median_tokens: float
    min_tokens: int
    max_tokens: int
    ended_share: float
    """Answers that the model ended itself."""
    repeating_share: float
    """Answers in which a run of four tokens stands more than twice."""


@dataclass(frozen=True)
class Separation:
    """How far two sets of answer lengths are apart; the shorter set is meant to be the first."""

    median_ratio: float
    auc: float
    """P(a length of the second set exceeds one of the first), ties counted half."""


def judge(
    folder: Path, manifest: AdapterManifest, prompts: Sequence[str], config: TrainConfig
) -> AdapterManifest:
    """Measure an adapter on prompts and write the report into its manifest."""
    _free_memory()
    engine_config = EngineConfig(
        adapter=folder,
        base_model=config.base_model,
        device=config.device,
        quantization=config.quantization,
    )
    report = style_report(engine_config, prompts)
    scores = {**manifest.scores, "styles": report}
    return dataclasses.replace(manifest, scores=scores).save(folder)


def style_report(config: EngineConfig, prompts: Sequence[str]) -> dict[str, Any]:
    """Scores per style with presets on and off, and of the controls, as plain data.

    The first style of the adapter counts as the shorter one.
    """
    bar = tqdm(total=0, desc="judging", unit="answer")
    loaded = load(config)
    core = EngineCore(loaded, config)
    report = {
        "num_prompts": len(prompts),
        "presets_off": _compare(core, _styled(loaded, prompts, PRESETS_OFF), bar),
        "presets_on": _compare(core, _styled(loaded, prompts, None), bar),
    }
    del loaded, core
    _free_memory()
    base = load(config, with_adapter=False)
    core = EngineCore(base, config)
    report["base_with_style_tokens"] = _compare(core, _styled(base, prompts, PRESETS_OFF), bar)
    report["base_with_plain_instructions"] = _compare(core, _instructed(base, prompts), bar)
    bar.close()
    del base, core
    _free_memory()
    return report


def auc(shorter: Sequence[int], longer: Sequence[int]) -> float:
    """Share of pairs in which the second sequence's length is larger, ties counted half."""
    wins = sum((long > short) + 0.5 * (long == short) for short in shorter for long in longer)
    return wins / (len(shorter) * len(longer))


def score(outputs: Sequence[Output]) -> StyleScore:
    """Summarize answers."""
    lengths = [len(output.ids) for output in outputs]
    repeating = sum(max(ngram_counts(o.ids).values(), default=0) > 2 for o in outputs)
    return StyleScore(
        median_tokens=statistics.median(lengths),
        min_tokens=min(lengths),
        max_tokens=max(lengths),
        ended_share=sum(output.finish_reason == "stop" for output in outputs) / len(outputs),
        repeating_share=repeating / len(outputs),
    )


def _styled(
    loaded: LoadedModel, prompts: Sequence[str], preset: Preset | None
) -> dict[str, list[Job]]:
    """Every prompt in every style; None stands for the style's own preset."""
    return {
        style.name: [
            Job(
                loaded.prompt.encode_prompt([Message("user", text)], style.token),
                SamplingParams.from_preset(preset or style.preset, seed=number),
            )
            for number, text in enumerate(prompts)
        ]
        for style in loaded.manifest.styles
    }


def _instructed(loaded: LoadedModel, prompts: Sequence[str]) -> dict[str, list[Job]]:
    """Every prompt with a plain instruction in place of the style token."""
    params = SamplingParams.from_preset(PRESETS_OFF)
    return {
        instruction: [
            Job(
                loaded.prompt.encode_prompt([Message("user", instruction.format(text))], None),
                params,
            )
            for text in prompts
        ]
        for instruction in PLAIN_INSTRUCTIONS
    }


def _compare(
    core: EngineCore, jobs_by_name: dict[str, list[Job]], bar: tqdm[Any]
) -> dict[str, Any]:
    bar.total += sum(len(jobs) for jobs in jobs_by_name.values())
    bar.refresh()
    outputs = {name: _answer(core, jobs, bar) for name, jobs in jobs_by_name.items()}
    result: dict[str, Any] = {
        name.format("…"): dataclasses.asdict(score(found)) for name, found in outputs.items()
    }
    lengths = [[len(output.ids) for output in found] for found in outputs.values()]
    if len(lengths) > 1:
        shorter, longer = lengths[0], lengths[1]
        medians = [statistics.median(shorter), statistics.median(longer)]
        separation = Separation(medians[1] / max(medians[0], 1), auc(shorter, longer))
        result["separation"] = dataclasses.asdict(separation)
    return result


def _answer(core: EngineCore, jobs: list[Job], bar: tqdm[Any]) -> list[Output]:
    outputs: list[Output] = []
    for start in range(0, len(jobs), _BATCH_SIZE):
        batch = jobs[start : start + _BATCH_SIZE]
        outputs += core.run(batch)
        bar.update(len(batch))
    return outputs


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
