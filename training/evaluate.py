"""Judges a finished adapter the way callers will meet it: through the server's own loading.

The presets force lengths apart, so every style is measured with them off as well: greedy, no
minimum, a generous maximum. Controls show what the base does without the adapter.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from adapters.manifest import AdapterManifest
from adapters.prompts import Example, Message, PromptError, PromptFormat
from serving.config import EngineConfig
from serving.loader import load
from serving.startup import check_start
from training.config import TrainConfig
from training.judging.asking import PLAIN_INSTRUCTIONS, PRESETS_OFF, Respondent
from training.judging.loss import measure_loss
from training.judging.persona import PERSONA_PROMPTS, PERSONA_SEEDS, PersonaAnswers
from training.judging.style_report import Comparison, StyleReport, compare
from training.judging.windows import Window, are_trained, shortest_first, windows_of
from training.report import write_report

if TYPE_CHECKING:
    from training.dataset.rows import Row

logger = logging.getLogger(__name__)
_PROBE = 2
"""Prompts that show how long an answer takes."""
_BASE_IS_WORDIER = 1.2
"""Answers of the controls are longer on the whole."""


def judge(
    folder: Path,
    manifest: AdapterManifest,
    prompts: Sequence[str],
    config: TrainConfig,
    rows: Sequence[Row] = (),
    seconds: float | None = None,
) -> StyleReport:
    """Measure an adapter on prompts and rows and write the scores into its manifest.

    The report for people goes to the run's folder; an adapter is worth keeping without it. With
    `seconds` it asks no more of the prompts than it has time for, but one at least.
    """
    _free_memory()
    engine_config = EngineConfig(
        adapter=folder,
        base_model=config.base_model,
        device=config.device,
        quantization=config.quantization,
    )
    report = style_report(engine_config, prompts, rows, seconds)
    scores = {**manifest.scores, "styles": report.to_dict()}
    try:
        write_report(report, config.run_folder / "report")
    except OSError as error:
        logger.warning("the style report could not be written: %s", error)
    dataclasses.replace(manifest, scores=scores).save(folder)
    return report


def style_report(
    config: EngineConfig,
    prompts: Sequence[str],
    rows: Sequence[Row] = (),
    seconds: float | None = None,
) -> StyleReport:
    """Ask an adapter and its base for everything that a report holds.

    Args:
        config: which adapter, and how the server would load it.
        prompts: at least one question that was not learned.
        rows: answers whose loss is measured; none for no losses.
        seconds: time for all of it; None for as long as it takes.

    Raises:
        ValueError: the adapter is damaged or does not fit the base, `prompts` is empty, or listing
            the rows that its chat template refuses.
        FileNotFoundError: there is no such base model.
    """
    if not prompts:
        raise ValueError("an adapter is judged on one prompt at least")
    began = time.monotonic()
    manifest = check_start(config)
    prompt = PromptFormat.from_folder(config.adapter)
    examples = _examples(manifest, prompt, rows)
    config = _with_room(config, prompt, prompts, examples)
    windows = windows_of(manifest)
    with tqdm(total=num_answers(len(prompts), len(windows)), desc="judging", unit="answer") as bar:
        loaded = load(config)
        # before the engine takes the model's memory for its own cache
        losses = {style: measure_loss(loaded.model, found) for style, found in examples.items()}
        respondent, device = Respondent(loaded, config, bar), str(loaded.model.device)
        del loaded
        seeds: Sequence[int] = PERSONA_SEEDS
        if seconds is not None:
            loading = time.monotonic() - began
            left = seconds - 2 * loading  # the base is loaded once more, without the adapter
            prompts, seeds = _in_time(respondent, prompts, manifest, left)
            bar.total = bar.n + num_answers(len(prompts), len(windows), len(seeds))
        comparisons = _ask_adapter(respondent, prompts, windows, manifest)
        personas = _ask_personas(respondent, manifest, seeds) if seeds else {}
        del respondent
        _free_memory()
        controls = _ask_base(config, prompts, windows, bar)
        _free_memory()
        answered = int(bar.n)
    return StyleReport(
        manifest=manifest,
        prompts=tuple(prompts),
        windows=windows,
        windows_are_trained=are_trained(manifest),
        comparisons={**comparisons, **controls},
        personas=personas,
        losses=losses,
        device=device,
        num_answers=answered,
        seconds=time.monotonic() - began,
    )


def num_answers(num_prompts: int, num_styles: int, num_seeds: int = len(PERSONA_SEEDS)) -> int:
    """Answers that a report takes."""
    # every style four times, no style once, two instructions; then the persona prompts
    asked = num_prompts * (4 * num_styles + 3)
    return asked + num_styles * len(PERSONA_PROMPTS) * num_seeds


def _in_time(
    respondent: Respondent, prompts: Sequence[str], manifest: AdapterManifest, seconds: float
) -> tuple[Sequence[str], Sequence[int]]:
    """As many of the prompts, and of the persona's seeds, as there is time for."""
    styles = shortest_first(manifest)
    began = time.monotonic()
    respondent.ask_styles(prompts[:_PROBE], styles, PRESETS_OFF)
    took = time.monotonic() - began
    answers = (seconds - took) / (took / len(styles) / len(prompts[:_PROBE])) / _BASE_IS_WORDIER
    each = num_answers(1, len(styles), 0)
    personas = num_answers(0, len(styles))
    if answers >= personas + _PROBE * each:
        return prompts[: int((answers - personas) / each)], PERSONA_SEEDS
    return prompts[: max(1, int(answers / each))], ()


def _ask_adapter(
    respondent: Respondent,
    prompts: Sequence[str],
    windows: dict[str, Window],
    manifest: AdapterManifest,
) -> dict[str, Comparison]:
    styles, held = shortest_first(manifest), list(windows.values())
    return {
        "presets_off": compare(respondent.ask_styles(prompts, styles, PRESETS_OFF), held),
        "presets_on": compare(respondent.ask_styles(prompts, styles, None), held),
        "no_token": compare(respondent.ask_plainly(prompts), [None]),
    }


def _ask_personas(
    respondent: Respondent, manifest: AdapterManifest, seeds: Sequence[int]
) -> dict[str, PersonaAnswers]:
    personas = {}
    for style in shortest_first(manifest):
        answers = respondent.ask_seeds(PERSONA_PROMPTS, style, seeds)
        personas[style.name] = PersonaAnswers(tuple(tuple(o.text for o in a) for a in answers))
    return personas


def _ask_base(
    config: EngineConfig, prompts: Sequence[str], windows: dict[str, Window], bar: tqdm[Any]
) -> dict[str, Comparison]:
    loaded = load(config, with_adapter=False)
    styles, held = shortest_first(loaded.manifest), list(windows.values())
    # the instructions ask for short and for long answers, which one style alone does not have
    ends = [held[0], held[-1]] if len(held) > 1 else [None, None]
    base = Respondent(loaded, config, bar)
    return {
        "base_with_style_tokens": compare(base.ask_styles(prompts, styles, PRESETS_OFF), held),
        "base_with_plain_instructions": compare(base.ask_with_instructions(prompts), ends),
        "base_with_presets": compare(base.ask_presets(prompts, styles), held),
    }


def _examples(
    manifest: AdapterManifest, prompt: PromptFormat, rows: Sequence[Row]
) -> dict[str, list[Example]]:
    """Rows as ids, by style, each prompt as the server builds it; styles without rows left out.

    Answers that were marked as undesirable are not what the adapter ought to give.
    """
    examples: dict[str, list[Example]] = {style.name: [] for style in shortest_first(manifest)}
    problems = []
    for row in rows:
        if row.label is False:
            continue
        token = manifest.style(row.style).token
        try:
            example = prompt.encode_example(row.messages, row.completion, token)
        except PromptError as error:
            problems.append(f"row in line {row.line}: {error}")
        else:
            examples[row.style].append(example)
    if problems:
        raise ValueError("\n".join(problems))
    return {style: found for style, found in examples.items() if found}


def _with_room(
    config: EngineConfig,
    prompt: PromptFormat,
    prompts: Sequence[str],
    examples: dict[str, list[Example]],
) -> EngineConfig:
    """The same with room for whatever will be asked: what was trained can be judged."""
    asked = [PLAIN_INSTRUCTIONS[-1].format(text) for text in prompts]
    lengths = [len(prompt.encode_prompt([Message("user", text)], None)) for text in asked]
    lengths += [len(example.input_ids) for found in examples.values() for example in found]
    longest = max(config.max_prompt_tokens, *lengths)
    return dataclasses.replace(config, max_prompt_tokens=longest)


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
