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
from serving.loader import LoadedModel, load
from serving.runner import Output, Row, generate
from serving.sampler import SamplingParams
from training.cards import ngram_counts
from training.config import TrainConfig

PRESETS_OFF = Preset(
    temperature=0.0, top_p=1.0, min_new_tokens=0, max_new_tokens=512, do_sample=False
)
PLAIN_INSTRUCTIONS = ("Answer briefly. {}", "Answer in detail. {}")
_BATCH_SIZE = 32


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
    report = {
        "num_prompts": len(prompts),
        "presets_off": _compare(loaded, _styled(loaded, prompts, PRESETS_OFF), bar),
        "presets_on": _compare(loaded, _styled(loaded, prompts, None), bar),
    }
    del loaded
    _free_memory()
    base = load(config, with_adapter=False)
    report["base_with_style_tokens"] = _compare(base, _styled(base, prompts, PRESETS_OFF), bar)
    report["base_with_plain_instructions"] = _compare(base, _instructed(base, prompts), bar)
    bar.close()
    del base
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
) -> dict[str, list[Row]]:
    """Every prompt in every style; None stands for the style's own preset."""
    return {
        style.name: [
            Row(
                loaded.prompt.encode_prompt([Message("user", text)], style.token),
                SamplingParams(preset or style.preset, seed=number),
            )
            for number, text in enumerate(prompts)
        ]
        for style in loaded.manifest.styles
    }


def _instructed(loaded: LoadedModel, prompts: Sequence[str]) -> dict[str, list[Row]]:
    """Every prompt with a plain instruction in place of the style token."""
    params = SamplingParams(PRESETS_OFF)
    return {
        instruction: [
            Row(
                loaded.prompt.encode_prompt([Message("user", instruction.format(text))], None),
                params,
            )
            for text in prompts
        ]
        for instruction in PLAIN_INSTRUCTIONS
    }


def _compare(
    loaded: LoadedModel, rows_by_name: dict[str, list[Row]], bar: tqdm[Any]
) -> dict[str, Any]:
    bar.total += sum(len(rows) for rows in rows_by_name.values())
    bar.refresh()
    outputs = {name: _answer(loaded, rows, bar) for name, rows in rows_by_name.items()}
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


def _answer(loaded: LoadedModel, rows: list[Row], bar: tqdm[Any]) -> list[Output]:
    outputs: list[Output] = []
    for start in range(0, len(rows), _BATCH_SIZE):
        batch = rows[start : start + _BATCH_SIZE]
        outputs += generate(
            loaded.model,
            batch,
            eos_ids=loaded.eos_ids,
            suppressed_ids=loaded.suppressed_ids,
        )
        bar.update(len(batch))
    return outputs


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
